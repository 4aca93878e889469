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
