"""The process group of Ray Train's workers, on the network over which Ray itself reaches their machines."""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend  # there is no public step between a worker's start and its group's


class OwnNetwork(TorchConfig):
    """A `TorchConfig` by which gloo takes the interface that has the address by which Ray knows the machine.

    By itself it takes the one of the host's name, which is 127.0.1.1 on many a machine (the installers of Debian and
    Ubuntu write it so): workers on other machines then look for it on their own, and none starts.
    """

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What starts the process group."""
        return _OwnNetworkBackend


class _OwnNetworkBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(name_interface)
        super().on_start(worker_group, backend_config)


def name_interface() -> None:
    """Sets GLOO_SOCKET_IFNAME for this process, unless somebody has."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
