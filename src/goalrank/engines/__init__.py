"""Where work on many parts runs: threads of this process, or a Ray cluster.

>>> from goalrank.engines import open_engine
>>> with open_engine("local", workers=2) as engine:
...     list(engine.map(pow, 2, [1, 2, 3]))
[2, 4, 8]
"""

from goalrank.engines.base import Engine, LocalEngine, usable_cores
from goalrank.engines.opening import ENGINES, open_engine
from goalrank.engines.ray_engine import RayEngine
from goalrank.engines.retry import RETRIES, transient, with_retries
from goalrank.engines.store import Store

__all__ = [
    "ENGINES",
    "RETRIES",
    "Engine",
    "LocalEngine",
    "RayEngine",
    "Store",
    "open_engine",
    "transient",
    "usable_cores",
    "with_retries",
]
