"""The page of a report: its frame and its style. No script, nothing loaded from anywhere."""

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

STYLE = """
:root {
  --paper: #faf8f4; --card: #ffffff; --ink: #25231f; --soft: #77726a; --line: #e6e1d8; --track: #ece8e0;
  --plan: #5b67b7; --sketch: #2b8a86; --inspect: #b27a1a; --refine: #b5507a; --outside: #6f7d46;
  --good: #3b7f52; --bad: #b3402f; --bad-ground: #fbeeea;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Source Serif 4", Georgia, serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #171614; --card: #201f1c; --ink: #e9e5dc; --soft: #9c968a; --line: #34312c; --track: #302d28;
    --plan: #98a2ea; --sketch: #68c0ba; --inspect: #dba750; --refine: #e28dae; --outside: #aebb82;
    --good: #80c096; --bad: #ec8b7b; --bad-ground: #33211d;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 var(--sans); }
main { max-width: 1240px; margin: 0 auto; padding: 56px 28px 96px; }
h1, h2 { font-family: var(--serif); font-weight: 500; text-wrap: balance; overflow-wrap: anywhere; margin: 0; }
h1 { font-size: clamp(1.7rem, 3.4vw, 2.5rem); line-height: 1.2; letter-spacing: -.012em; max-width: 34ch; }
h2 { font-size: 1.35rem; line-height: 1.3; }
h3 { font: 600 .74rem/1 var(--sans); letter-spacing: .09em; text-transform: uppercase; color: var(--soft); margin: 0; }
p { margin: 0; overflow-wrap: anywhere; }
.brand { font: 600 .74rem/1 var(--sans); letter-spacing: .16em; text-transform: uppercase; color: var(--soft);
  margin-bottom: 20px; }
.facts { display: flex; flex-wrap: wrap; gap: 6px 22px; margin: 18px 0 0; padding: 0; color: var(--soft);
  font-size: .88rem; list-style: none; }
.facts b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.hero { display: flex; flex-wrap: wrap; gap: 28px 48px; align-items: center; justify-content: space-between; }
.hero > div { flex: 1 1 420px; min-width: 0; } .hero > img { width: 208px; flex: none; }
.overview { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 14px; margin: 36px 0 0; }
.overview a { color: inherit; text-decoration: none; font-size: .8rem; font-variant-numeric: tabular-nums; }
.overview a:hover img, .overview a:focus-visible img { outline: 2px solid var(--plan); outline-offset: 2px; }
.overview span { display: flex; justify-content: space-between; gap: 8px; margin-top: 5px; color: var(--soft); }
.overview b { color: var(--ink); font-weight: 600; }
.kind { margin: 56px 0 0; padding-bottom: 10px; border-bottom: 1px solid var(--line); }
.drawing { margin: 28px 0 0; }
.drawing > summary { list-style: none; cursor: pointer; padding: 14px 0; }
.drawing > summary::-webkit-details-marker { display: none; }
.drawing > summary h2::before { content: "\\25B8"; color: var(--soft); display: inline-block; width: 1.1em; }
.drawing[open] > summary h2::before { content: "\\25BE"; }
.round { margin: 34px 0 0; }
.round > h3 { display: flex; align-items: center; gap: 14px; margin-bottom: 14px; }
.round > h3::after { content: ""; flex: 1; height: 1px; background: var(--line); }
.strip { display: grid; grid-template-columns: 1.15fr 1fr 1.15fr 1fr; gap: 16px; align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px; min-width: 0; }
.card > h3 { display: flex; align-items: center; gap: 8px; margin-bottom: 12px; min-height: 18px; }
.card > h3::before { content: ""; width: 8px; height: 8px; border-radius: 50%; background: var(--hue, var(--soft)); }
.plan { --hue: var(--plan); grid-column: 1; } .sketch { --hue: var(--sketch); grid-column: 2; }
.inspect { --hue: var(--inspect); grid-column: 3; } .refine { --hue: var(--refine); grid-column: 4; }
.stop { grid-column: 1 / -1; background: none; border-style: dashed; }
.stop > h3 { margin: 0; }
.outside { --hue: var(--outside); border-style: dashed; }
.outside.words, .plan.illegal, .inspect.illegal { grid-column: 1 / -1; }
.illegal { background: var(--bad-ground); border-color: var(--bad); }
.badge { margin-left: auto; padding: 3px 9px; border-radius: 99px; border: 1px solid currentColor; color: var(--soft);
  font-size: .66rem; letter-spacing: .05em; line-height: 1.2; white-space: nowrap; }
.badge.good { color: var(--good); } .badge.ask { color: var(--inspect); } .badge.bad { color: var(--bad); }
dl.says { margin: 0; display: grid; gap: 10px; }
dl.says dt { font-size: .74rem; color: var(--soft); } dl.says dd { margin: 1px 0 0; overflow-wrap: anywhere; }
.refinement { margin-top: 10px; padding-left: 11px; border-left: 2px solid var(--inspect); }
.error { margin-top: 10px; color: var(--bad); font-size: .86rem; }
pre { margin: 0; font: .82rem/1.5 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }
img { display: block; width: 100%; height: auto; aspect-ratio: 1; border-radius: 6px; background: #fff;
  box-shadow: 0 0 0 1px var(--line); }
img.small { image-rendering: pixelated; }
.frame { display: block; cursor: zoom-in; } .frame + .close { display: none; }
.frame:target { position: fixed; inset: 0; z-index: 2; display: grid; place-items: center;
  background: color-mix(in srgb, var(--paper) 94%, transparent); }
.frame:target img { width: min(94vw, 94vh); }
.frame:target + .close { display: block; position: fixed; inset: 0; z-index: 3; cursor: zoom-out; }
.terms { margin: 13px 0 0; padding: 0; list-style: none; display: grid; gap: 5px; font-size: .78rem;
  color: var(--soft); }
.terms li { display: grid; grid-template-columns: 1fr auto; gap: 2px 10px; overflow-wrap: anywhere; }
.terms b { color: var(--ink); font: 500 .95em/1.6 var(--mono); font-variant-numeric: tabular-nums; }
.terms i { grid-column: 1 / -1; height: 3px; border-radius: 2px; background: var(--track); overflow: hidden; }
.terms i::before { content: ""; display: block; height: 100%; width: calc(var(--value) * 100%);
  background: var(--hue, var(--soft)); }
.stop .terms { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px 26px; }
footer { margin-top: 72px; color: var(--soft); font-size: .8rem; }
@media (max-width: 980px) {
  .strip { grid-template-columns: 1fr 1fr; }
  .strip .card { grid-column: auto; } .strip .stop, .strip .words, .strip .illegal { grid-column: 1 / -1; }
}
@media (max-width: 560px) { main { padding: 32px 16px 64px; } .strip { grid-template-columns: 1fr; } }
@media print { .drawing { break-inside: avoid; } main { max-width: none; padding: 0; } }
"""
