"""Expected rates of resnet50 at 224 px on 1 to 64 GPUs: arithmetic, no measurement.

    python tests/benchmarks/scaling.py [--gpu-rate 2500] [--gpu-batch 128]

Prints the tables of docs/scaling.md, which names every assumption. Bytes are decimal: 1 GB is 1e9.
"""

import argparse
from dataclasses import dataclass, replace

PARAMETERS = 25_557_032  # of torchvision's resnet50
NORMS = 53  # its batch norms
IMAGE_BYTES = 224 * 224 * 3  # uint8, as packed
BUCKET_BYTES = 25 * 2**20  # of DistributedDataParallel
IMAGENET_IMAGES = 1_281_167
GPUS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Cluster:
    """What is assumed of GPUs and links. Links have bytes/s in one direction."""

    name: str
    inside: float  # between the GPUs of a node
    between: float  # of one node to the others
    latency_inside_s: float  # of a collective of a few kB
    latency_between_s: float
    gpus_per_node: int = 8
    gpu_rate: float = 2500.0  # images/s of one GPU by itself
    gpu_batch: int = 128  # images per GPU and step
    gradient_bytes: int = 4  # of one parameter


CLUSTERS = (
    Cluster("PCIe, 25 Gbit/s", 16e9, 25e9 / 8, 40e-6, 100e-6),
    Cluster("NVLink, 100 Gbit/s", 200e9, 100e9 / 8, 20e-6, 60e-6),
    Cluster("NVLink, 400 Gbit/s", 200e9, 400e9 / 8, 20e-6, 40e-6),
)


def ring_bytes(gpus: int, gradient_bytes: int) -> float:
    """Return what each GPU sends in a ring all-reduce: 2 (n - 1) / n of all gradients."""
    return 2 * (gpus - 1) / gpus * PARAMETERS * gradient_bytes


def all_reduce_s(cluster: Cluster, gpus: int) -> float:
    """Return the seconds of one all-reduce of all gradients, at the slowest link of the ring."""
    link = cluster.inside if gpus <= cluster.gpus_per_node else cluster.between
    return ring_bytes(gpus, cluster.gradient_bytes) / link


def step_s(cluster: Cluster, gpus: int, gpu_batch: float, sync_norms: bool) -> float:
    """Return the seconds of one step: arithmetic, and what of the exchange it does not hide.

    The backward pass, two thirds of the arithmetic, hides the exchange of every bucket but the
    last. The exchange of batch norms hides behind nothing: one collective in each direction.
    """
    arithmetic_s = gpu_batch / cluster.gpu_rate
    if gpus == 1:
        return arithmetic_s
    exchange_s = all_reduce_s(cluster, gpus)
    last_bucket = BUCKET_BYTES / (PARAMETERS * 4)  # buckets are cut before they are compressed
    exposed_s = max(exchange_s - arithmetic_s * 2 / 3, exchange_s * last_bucket)
    if sync_norms:
        near = gpus <= cluster.gpus_per_node
        exposed_s += 2 * NORMS * (cluster.latency_inside_s if near else cluster.latency_between_s)
    return arithmetic_s + exposed_s


def rate(
    cluster: Cluster, gpus: int, global_batch: int | None = None, sync_norms: bool = True
) -> float:
    """Return images/s of all GPUs; with `global_batch`, that batch is shared out among them."""
    gpu_batch = cluster.gpu_batch if global_batch is None else global_batch / gpus
    return gpus * gpu_batch / step_s(cluster, gpus, gpu_batch, sync_norms)


def scaling_table(cluster: Cluster) -> str:
    """Return a table with a row per number of GPUs."""
    lines = [
        "| GPUs | sent by each GPU | all-reduce | step | images/s | efficiency |"
        " gradients in 2 bytes | norms not synchronised | global batch of 1,024 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        alone = gpus * cluster.gpu_rate
        whole = rate(cluster, gpus)
        cells = (
            str(gpus),
            f"{ring_bytes(gpus, cluster.gradient_bytes) / 1e6:.0f} MB",
            f"{all_reduce_s(cluster, gpus) * 1e3:.1f} ms",
            f"{step_s(cluster, gpus, cluster.gpu_batch, sync_norms=True) * 1e3:.1f} ms",
            f"{whole:,.0f}",
            f"{whole / alone:.2f}",
            f"{rate(replace(cluster, gradient_bytes=2), gpus) / alone:.2f}",
            f"{rate(cluster, gpus, sync_norms=False) / alone:.2f}",
            f"{rate(cluster, gpus, global_batch=1024) / alone:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def input_table(cluster: Cluster) -> str:
    """Return a table of the bytes that images need, at the rate of GPUs that wait for nothing."""
    lines = [
        "| GPUs | images/s | read by all nodes | read by each node | over each GPU's PCIe |",
        "|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        read = gpus * cluster.gpu_rate * IMAGE_BYTES / 1e9
        nodes = -(-gpus // cluster.gpus_per_node)
        cells = (
            str(gpus),
            f"{gpus * cluster.gpu_rate:,.0f}",
            f"{read:.2f} GB/s",
            f"{read / nodes:.2f} GB/s",
            f"{read / gpus:.2f} GB/s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fetch_table() -> str:
    """Return a table of how long each node takes to fetch ImageNet, packed, for the first time."""
    size = IMAGENET_IMAGES * IMAGE_BYTES
    lines = ["| network of a node | seconds for 193 GB |", "|---|---|"]
    assert round(size / 1e9) == 193
    lines += [f"| {gbit} Gbit/s | {size / (gbit * 1e9 / 8):.0f} |" for gbit in (25, 100, 400)]
    return "\n".join(lines)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu-rate", type=float, default=2500.0, help="images/s of one GPU")
    parser.add_argument("--gpu-batch", type=int, default=128, help="images per GPU and step")
    given = parser.parse_args()
    for cluster in CLUSTERS:
        assumed = replace(cluster, gpu_rate=given.gpu_rate, gpu_batch=given.gpu_batch)
        print(f"{cluster.name}\n\n{scaling_table(assumed)}\n")
    print(f"Images\n\n{input_table(assumed)}\n\nImageNet\n\n{fetch_table()}")


if __name__ == "__main__":
    main()
