"""The map of the latent space as a page that a person moves about in: one file, no network.

`map.html` includes `map.css` and the scripts `unpack.js`, `draw.js`, `page.js`
and `controls.js`, in this order.
"""

from pipeline.evaluation.map.render import MapPoints, render_map, room_for_thumbnails
from pipeline.evaluation.map.spread import spread
from pipeline.evaluation.map.thumbnails import make_thumbnails

__all__ = ["MapPoints", "make_thumbnails", "render_map", "room_for_thumbnails", "spread"]
