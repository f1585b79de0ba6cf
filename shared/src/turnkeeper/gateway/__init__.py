"""The gateway: a Messages API in front of the provider, that puts the kit's caps on any client.

A client shows a token instead of the provider's key. Each of its calls is admitted, and settled, by the same gate and
in the same ledger as the kit's own calls; in between, its bytes go on as they came. A room of its own: what runs
sessions knows nothing of it, and it is wired where it is served.
"""

from turnkeeper.gateway.core import Gateway
from turnkeeper.runtime.store.purses import Spent

__all__ = ["Gateway", "Spent"]
