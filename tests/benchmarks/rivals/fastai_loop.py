"""Train as fastai's own pages do, and predict the test images.

    python -m tests.benchmarks.rivals.fastai_loop CUT RESULT.json --weights FILE.safetensors

CUT is a folder that cut.py made. With weights, fastai puts its own head on the network, trains it
alone for an epoch, and then all layers for --epochs: `fine_tune`. Without, it trains all layers
from random weights: `fit_one_cycle`. A network that torchvision lacks keeps its own head and is
trained from random weights. Images are cut to a square by `Resize` and augmented in
batches by `aug_transforms`. --lr is the highest rate; without it, fastai's default is taken.
"""

from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.rivals import loops  # first: the clock starts

# isort: split
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Learner,
    MixedPrecision,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    imagenet_stats,
    models,
    set_seed,
    vision_learner,
)
from fastai.vision.learner import default_split, model_meta
from safetensors.torch import load_file


class CpuBf16(Callback):
    """Compute in bf16 on the processor; fastai's own MixedPrecision is for CUDA alone."""

    order = MixedPrecision.order

    def before_batch(self) -> None:
        """Enter, for the network."""
        self.context = torch.autocast("cpu", torch.bfloat16)
        self.context.__enter__()

    def after_pred(self) -> None:
        """Leave, so that the loss is computed in fp32."""
        self.context.__exit__(None, None, None)
        self.learn.pred = self.pred.float()


def main() -> None:
    """Train, predict and write the result."""
    parser = loops.parser(__doc__)
    arguments = parser.parse_args()
    if arguments.weights and not loops.is_torchvision(arguments.arch):
        parser.error(f"--weights: fastai loads those of torchvision alone, not of {arguments.arch}")
    set_seed(arguments.seed)
    images = ImageDataLoaders.from_folder(
        arguments.data,
        train="train",
        valid="val",
        item_tfms=Resize(arguments.size),
        # fastai normalises by itself only where it has loaded weights.
        batch_tfms=[*aug_transforms(do_flip=arguments.flip), Normalize.from_stats(*imagenet_stats)],
        bs=loops.batch_size(arguments),
        num_workers=arguments.workers,
    )
    pretrained = arguments.weights is not None
    if loops.is_torchvision(arguments.arch):
        arch = architecture(arguments.arch, arguments.weights)
        learner = vision_learner(images, arch, pretrained=pretrained, metrics=accuracy)
    else:
        network = loops.build(arguments.arch, arguments.size, images.c)
        learner = Learner(images, network, metrics=accuracy)
    compute = arguments.compute
    if compute == "auto":
        batch, labels = (part.as_subclass(torch.Tensor) for part in images.one_batch())
        compute = loops.fastest_compute(learner.model, batch, labels)
    use(learner, compute)
    files = get_image_files(arguments.data / "test")
    with learner.no_bar():
        if pretrained:
            rate = {"base_lr": arguments.lr} if arguments.lr else {}
            learner.fine_tune(arguments.epochs, **rate)
        else:
            learner.fit_one_cycle(arguments.epochs, arguments.lr)
        scores, _ = learner.get_preds(dl=images.test_dl(files))
    answers = [images.vocab[answer] for answer in scores.argmax(1).tolist()]
    loops.write_result(arguments, compute, files, answers)


def architecture(name: str, weights: Path | None) -> Callable[..., torch.nn.Module]:
    """Return one of torchvision's networks whose pretrained weights are those of a file.

    fastai looks up where to cut and to split a network, and which weights it asks for, by the
    function that builds it. This one is entered beside torchvision's.
    """
    build = getattr(models, name)

    def arch(weights: Path | None) -> torch.nn.Module:
        network = build()
        if weights:
            network.load_state_dict(load_file(weights))
        return network

    unknown = {"cut": None, "split": default_split, "stats": imagenet_stats}
    model_meta[arch] = model_meta.get(build, unknown) | {"weights": weights}
    return arch


def use(learner: Learner, compute: str) -> None:
    """Have the learner compute in the way that was chosen."""
    dtype, layout = loops.COMPUTE[compute]
    if layout == torch.channels_last:
        learner.add_cb(ChannelsLast())
    if dtype == torch.bfloat16:
        learner.add_cb(CpuBf16())


if __name__ == "__main__":
    main()
