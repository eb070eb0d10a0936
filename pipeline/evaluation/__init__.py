"""What models are worth: from plain arrays to the page.

`metrics` measures; `latent`, `drift`, `tta`, `baseline` and `judging` (comparison and gate) build
on it.
`reports` says what the JSON files hold, `registration` what becomes of a candidate. `plots` and
`page` show. Imports point from the later ones to the earlier ones.
"""
