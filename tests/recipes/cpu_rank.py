"""``recipes._worker`` as a rank of an FSDP run without GPUs, under ``accelerate launch``.

Accelerate knows FSDP on GPUs only: ranks on CPUs are another kind to it. Told that these are of the kind with GPUs, on gloo, it
takes the same way as there.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from recipes._worker import main


def on_gloo(*_: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState._prepare_backend = on_gloo
    torch.distributed.init_process_group("gloo")
    sys.exit(main(*sys.argv[1:]))
