"""What the stage embed reports of the latent space: retrieve.json."""

from pipeline.evaluation.reports.schema import Figure, Part


class Place(Part):
    """An image of the data set."""

    path: str
    label: str
    split: str


class WithPixels(Part):
    """Latent vectors and pixels as vectors, on the same images; `difference` is latent - pixels.

    Attributes:
        queries: test images.
        searched: training images.
    """

    queries: int
    searched: int
    latent: dict[str, Figure]
    pixels: dict[str, Figure]
    difference: dict[str, Figure]


class DuplicateGroup(Part):
    """Images that are near duplicates; `similarity` is the least cosine of a pair that joins."""

    similarity: float
    images: tuple[Place, ...]


class DuplicatesReport(Part):
    """Near duplicates in the latent space; see `evaluation.latent.duplicates`.

    Attributes:
        searched: images whose neighbours were looked at.
        dimension: that the images fill; None where it cannot be told.
        pairs: that are near duplicates.
        groups: that they form.
        images: in these.
        across_splits: groups with images of more than one split.
        of_several_classes: groups with images of more than one class.
        listed: groups; those across splits or of several classes first.
    """

    searched: int
    dimension: float | None
    pairs: int
    groups: int
    images: int
    across_splits: int
    of_several_classes: int
    listed: tuple[DuplicateGroup, ...]


class Outlier(Place):
    """An image far from its class: its modified z-score, and its mean cosine to the nearest."""

    score: float
    similarity: float


class OutliersReport(Part):
    """Images far from the others of their class; see `evaluation.latent.outliers`.

    Attributes:
        judged: images of classes that are large enough.
        outliers: how many there are.
        classes: outliers by class; classes without any are left out.
        listed: the furthest first.
    """

    judged: int
    outliers: int
    classes: dict[str, int]
    listed: tuple[Outlier, ...]


class Unlike(Place):
    """A test image, its largest cosine to a training image, and that image."""

    similarity: float
    nearest: Place


class UnlikeReport(Part):
    """Test images less like any training image than 95 % of the validation images.

    Attributes:
        threshold: the cosine that 5 % of the validation images are below.
        below: test images below it.
        share: of all test images; 5 % is expected where they are like validation images.
        listed: the least alike first, whether below or not.
    """

    threshold: float
    below: int
    share: Figure
    listed: tuple[Unlike, ...]


class RetrieveReport(Part):
    """retrieve.json: what lies near what.

    Attributes:
        test: figures of the nearest training images of each test image.
        queries: test images.
        ranked: test images whose ranking of all training images gives the mean average precision.
        searched: training images.
        dimensions: of a vector.
        against_pixels: what the network adds to the pixels.
        duplicates, outliers, unlike: what people may want to look at; `unlike` is None without
            validation images.
    """

    test: dict[str, Figure]
    queries: int
    ranked: int
    searched: int
    dimensions: int
    against_pixels: WithPixels
    duplicates: DuplicatesReport
    outliers: OutliersReport
    unlike: UnlikeReport | None
