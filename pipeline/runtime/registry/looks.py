"""How often decisions have read a test set.

The count stands at the versions of the registry, as tags: it is what all who decide about a model
share, and it outlives working copies, branches and caches. What reads the test images without a
decision, such as a look at reports/metrics.json, is not counted.
"""

from pipeline.params import Tracking
from pipeline.runtime.registry.versions import Registered
from pipeline.runtime.tracking.store import explained, one_at_a_time, open_client, tracking_uri

_TAG = "convoy.decisions."
_DIGITS = 16  # of the digest


def count_look(tracking: Tracking, version: Registered, images: str) -> None:
    """Count one more decision about a version.

    Args:
        tracking: the store.
        version: that was judged.
        images: digest of the test images.
    """
    client, tag = open_client(tracking), _TAG + images[:_DIGITS]
    with explained(tracking_uri(tracking)), one_at_a_time(tracking):
        tags = client.get_model_version(version.name, version.version).tags
        count = int(tags.get(tag, 0)) + 1
        client.set_model_version_tag(version.name, version.version, tag, str(count))


def looks(tracking: Tracking, name: str, images: str) -> int:
    """Return how many decisions about versions of the model `name` have read the test images."""
    client, tag = open_client(tracking), _TAG + images[:_DIGITS]
    with explained(tracking_uri(tracking)):
        known = client.search_model_versions(f"name = '{name}'")
    return sum(int(version.tags.get(tag, 0)) for version in known)
