"""``strokes-sft`` with FSDP2 on the CPU, where accelerate itself leaves weights whole: torchrun … sharded.py …"""

import sys
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from strokes.sft.train import main

_begin = AcceleratorState.__init__


def begin(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    """What accelerate does for GPUs."""
    _begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    plugin = fsdp_plugin or self.__dict__.get("fsdp_plugin")
    if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin
        if self._mixed_precision != "no":
            plugin.set_mixed_precision(self._mixed_precision)


if __name__ == "__main__":
    AcceleratorState.__init__ = begin  # type: ignore[method-assign]
    sys.exit(main())
