"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def hardware() -> str:
    """The accelerator's name, else the processor's."""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else processor()


def processor() -> str:
    """The processor's name and how many cores there are: ``Intel(R) Xeon(R) Processor, 2 cores``."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    cores = os.cpu_count() or 1
    return f"{name}, {cores} core{'s' * (cores != 1)}"


def multiplies_bf16_faster(device_type: str) -> bool:
    """Whether matrix units take bfloat16: GPUs since Ampere, Xeons with AMX. Elsewhere it is slower than float32."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device_type == "cpu" and bool(torch.cpu._is_amx_tile_supported())
