"""Importing this silences other libraries' chatter, which would tear progress bars apart.

The `dap` command and its processes do; a program that imports the package keeps its own settings.
"""

from __future__ import annotations

import logging
import os
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("SVT_LOG", "1")
os.environ.setdefault("PYTHONWARNINGS", "ignore")
warnings.filterwarnings("ignore")
logging.getLogger("libav").setLevel(logging.ERROR)
# Without FFmpeg's libraries: pages of tracebacks, and then the decoder that works everywhere.
logging.getLogger("lerobot.utils.import_utils").setLevel(logging.ERROR)
