"""Mask2Former and CLIP as GenEval's detector, on tiny random models; no weights are fetched."""

import functools
import types

import numpy as np
import pytest
from PIL import Image

from strokes.envs.scenes.clauses import COLOR_NAMES
from strokes.rewards import geneval_segmenter
from strokes.rewards.geneval import Found, Rule
from strokes.rewards.geneval_crops import clip_pixels, crops
from strokes.rewards.geneval_mask2former import Mask2FormerClip
from strokes.rewards.geneval_prompts import CLASSES
from strokes.rewards.geneval_segmenter import instances, prepare, segmenter_class

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

COCO = {"computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard"}
NAMES = dict(enumerate(COCO.get(name, name) for name in CLASSES))
META = {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a red cup"}
EVERYTHING = Rule(threshold=0.0, counting_threshold=0.0, max_objects=100)


def config(names=NAMES):
    backbone = transformers.SwinConfig(
        embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, image_size=96,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=10,
        id2label=names, label2id={name: k for k, name in names.items()},
    )  # fmt: skip


@functools.cache
def letters():
    """CLIP's tokenizer with a vocabulary of letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz-"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={token: k for k, token in enumerate(tokens)}, merges=[])


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(1)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(letters()), "eos_token_id": letters().eos_token_id}
    vision = {**size, "image_size": 32, "patch_size": 8}
    made = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    model = transformers.CLIPModel(made).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape)  # as initialised, it sees the same in all images
    return model


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return segmenter_class()(config()).eval()


@pytest.fixture
def small(monkeypatch):
    """Small inputs of the segmenter, of the same proportions."""
    monkeypatch.setattr(geneval_segmenter, "_LONG", 133)
    monkeypatch.setattr(geneval_segmenter, "_SHORT", 80)


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


class Drawn(torch.nn.Module):
    """A segmenter that sees given boxes of an image, as shares of its sides, each with its class and logit."""

    config = types.SimpleNamespace(id2label=NAMES)

    def __init__(self, *seen):
        super().__init__()
        self.seen, self.inner = seen, (1, 1)

    def forward(self, pixels):
        height, width = pixels.shape[-2:]
        classes = torch.full((1, len(self.seen), len(CLASSES) + 1), -9.0)
        masks = torch.full((1, len(self.seen), height // 4, width // 4), -20.0)
        for k, (name, logit, (left, top, right, bottom)) in enumerate(self.seen):
            classes[0, k, CLASSES.index(name)], classes[0, k, -1] = logit, 0.0
            rows, columns = self.inner[0] / 4, self.inner[1] / 4
            masks[0, k, int(top * rows) : int(bottom * rows), int(left * columns) : int(right * columns)] = 20.0
        return classes, masks


def drawn(image, *seen):
    made = Drawn(*seen)
    made.inner = prepare(image).inner
    return made


@pytest.mark.parametrize("size", [(64, 64), (48, 90), (91, 50)])
def test_boxes_are_in_pixels_of_the_image_whatever_its_shape(clip, size):
    image = photo(*size)
    segmenter = drawn(image, ("cup", 5.0, (0.25, 0.5, 0.75, 1.0)), ("dog", -2.0, (0, 0, 1, 1)))
    detector = Mask2FormerClip(segmenter, clip, letters(), device="cpu")
    (seen,) = detector.look([image], [META])
    assert list(seen) == ["cup"]
    (cup,) = seen["cup"]
    height, width = size
    assert cup.box == pytest.approx((0.25 * width, 0.5 * height, 0.75 * width, height), abs=1.01)
    assert cup.score == pytest.approx(float(torch.tensor(5.0).sigmoid()), abs=1e-2)
    assert cup.color in COLOR_NAMES and cup.mask is None


def test_only_colours_that_decide_are_asked_for(clip, monkeypatch):
    image = photo(60, 60)
    boxes = [(0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9)]
    segmenter = drawn(image, ("cup", 4.0, boxes[0]), ("cup", 5.0, boxes[1]), ("dog", 5.0, boxes[0]))
    detector = Mask2FormerClip(segmenter, clip, letters(), device="cpu")
    (seen,) = detector.look([image], [META])
    assert [cup.box[0] > 20 for cup in seen["cup"]] == [True, False]
    assert [cup.color is None for cup in seen["cup"]] == [False, True]
    assert seen["dog"][0].color is None
    three = {**META, "include": [{"class": "cup", "count": 3, "color": "red"}]}
    assert all(cup.color is None for cup in detector.look([image], [three])[0]["cup"])


def test_colours_are_those_of_the_sentences_nearest_to_the_crop(clip):
    image = photo(7, 5).repeat(10, 0).repeat(10, 1)
    boxes = [(x / 5, y / 5, x / 5 + 0.4, y / 5 + 0.3) for x in range(3) for y in range(3)]
    segmenter = drawn(image, *(("cup", 3.0 + 0.1 * k, box) for k, box in enumerate(boxes)))
    meta = {**META, "include": [{"class": "cup", "count": len(boxes), "color": "red"}]}
    detector = Mask2FormerClip(segmenter, clip, letters(), device="cpu")
    (seen,) = detector.look([image], [meta])

    classes, masks = segmenter(prepare(image).pixels)
    whole = tuple(prepare(image).pixels.shape[-2:])
    masked = instances(classes[0], masks[0], padded=whole, inner=segmenter.inner, size=(70, 50), least=0.3)["cup"]
    masked.sort(key=lambda item: -item.score)
    expected = []
    with torch.no_grad():
        for crop in crops(image, masked, Rule()):
            out = clip.get_image_features(pixel_values=torch.from_numpy(clip_pixels(crop, 32))[None])
            feature = getattr(out, "pooler_output", out)[0].numpy()
            marks = []
            for color in COLOR_NAMES:
                rows = []
                for text in (f"{color} cup", f"{color}-colored cup", f"{color} object"):
                    tokens = letters()([f"a photo of a {text}"], padding=True, return_tensors="pt")
                    out = clip.get_text_features(**tokens)
                    row = getattr(out, "pooler_output", out)[0].numpy()
                    rows.append(row / np.linalg.norm(row))
                mean = np.mean(rows, 0)
                marks.append(feature @ mean / np.linalg.norm(mean))
            expected.append(COLOR_NAMES[int(np.argmax(marks))])
    assert [cup.color for cup in seen["cup"]] == expected
    assert len(expected) == len(boxes) and len(set(expected)) > 1


@pytest.mark.parametrize("size", [(64, 64), (40, 100), (90, 32)])
def test_crops_are_prepared_as_by_clip(size):
    image = Image.fromarray(photo(*size))
    theirs = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = np.asarray(theirs(image, return_tensors="np")["pixel_values"][0])
    got = clip_pixels(image, 32)
    assert got.dtype == np.float32 and got.shape == (3, 32, 32)
    assert np.abs(got - expected).mean() < 0.02, "rounding of grey levels alone"


def test_a_random_model_runs_from_image_to_objects(segmenter, clip, small):
    detector = Mask2FormerClip(segmenter, clip, letters(), device="cpu", rule=EVERYTHING)
    images = [photo(64, 64), photo(40, 100, seed=1), photo(77, 31, seed=2)]
    meta = {**META, "include": [{"class": name, "count": 1, "color": "red"} for name in CLASSES]}
    seen = detector.look(images, [meta] * 3)
    again = [detector.look([image], [meta])[0] for image in images]
    for objects, alone, image in zip(seen, again, images, strict=True):
        assert objects and [name for name in CLASSES if name in objects] == list(objects)
        for name, items in objects.items():
            assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)
            assert [(i.box, i.score, i.color) for i in items] == [(i.box, i.score, i.color) for i in alone[name]]
            assert items[0].color in COLOR_NAMES
            for left, top, right, bottom in (item.box for item in items):
                assert 0 <= left < right <= image.shape[1] and 0 <= top < bottom <= image.shape[0]


def test_checkpoints_on_disk_are_loaded(tmp_path, segmenter, clip, small):
    for name, part in (("segmenter", segmenter), ("clip", clip), ("clip", letters())):
        part.save_pretrained(tmp_path / name)
    loaded = Mask2FormerClip.load(str(tmp_path / "segmenter"), str(tmp_path / "clip"), device="cpu", rule=EVERYTHING)
    given = Mask2FormerClip(segmenter, clip, letters(), device="cpu", rule=EVERYTHING)
    meta = {**META, "include": [{"class": name, "count": 1, "color": "red"} for name in CLASSES]}
    ours, theirs = (each.look([photo(64, 90)], [meta])[0] for each in (given, loaded))
    assert ours.keys() == theirs.keys()
    for name, items in ours.items():
        assert [(i.box, i.score, i.color) for i in items] == [(i.box, i.score, i.color) for i in theirs[name]]


def test_the_segmenter_is_transformers_own_but_for_the_training_loss(tmp_path, segmenter, monkeypatch):
    from transformers.models.mask2former import modeling_mask2former

    monkeypatch.setattr(modeling_mask2former, "requires_backends", lambda *_: None)  # scipy, which the loss alone uses
    theirs = transformers.Mask2FormerForUniversalSegmentation(segmenter.config).eval()
    theirs.save_pretrained(tmp_path)
    ours, info = segmenter_class().from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (classes, masks), out = ours.eval()(pixels), theirs(pixels)
    assert classes.shape == (2, 10, 81) and masks.shape == (2, 10, 16, 24)
    assert torch.equal(classes, out.class_queries_logits) and torch.equal(masks, out.masks_queries_logits)


def test_other_classes_and_another_order_are_refused(clip):
    for names in (dict(enumerate(CLASSES[::-1])), dict(enumerate(CLASSES[:79]))):
        segmenter = types.SimpleNamespace(config=types.SimpleNamespace(id2label=names))
        with pytest.raises(ValueError, match="COCO's 80 classes in COCO's order"):
            Mask2FormerClip(segmenter, clip, letters(), device="cpu")


def test_names_of_other_label_files_are_understood(clip):
    others = {"motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "tv": "tvmonitor"}
    segmenter = Drawn(("cup", 1.0, (0, 0, 1, 1)))
    segmenter.config = types.SimpleNamespace(id2label={k: others.get(name, name) for k, name in enumerate(CLASSES)})
    assert Mask2FormerClip(segmenter, clip, letters(), device="cpu").classes == CLASSES


def test_an_object_without_a_mask_keeps_its_surroundings():
    image = photo(20, 20)
    (shown,) = crops(image, [Found(box=(2.5, 3.5, 22.0, 9.0), score=1.0)], Rule())
    assert shown.size == (20, 5)
    assert np.array_equal(np.asarray(shown)[:, :18], image[4:9, 2:])
    assert not np.asarray(shown)[:, 18:].any()
