"""A network that fails as machines do, but only in other processes than the one that made it."""

import errno
import os
import time
from pathlib import Path

from torch import nn


class Flaky(nn.Module):
    """Passes pictures on to a network.

    Args:
        network: any.
        pause: seconds before each pass.
        once: a file; where it is missing it is made, and the process dies, or its disk is full.
        dies: whether it dies.
    """

    def __init__(self, network, pause=0.0, once=None, dies=True):
        super().__init__()
        self.network = network
        self.pause, self.once, self.dies, self.home = pause, once, dies, os.getpid()

    def forward(self, pictures):
        if os.getpid() != self.home:
            time.sleep(self.pause)
            if self.once is not None and not Path(self.once).exists():
                Path(self.once).touch()
                if self.dies:
                    os._exit(1)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp")
        return self.network(pictures)
