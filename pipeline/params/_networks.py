"""The names that model.name may take; a contract test holds them equal to the builders."""

NETWORKS: tuple[str, ...] = (
    "lenet5",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "squeezenet1_0",
    "squeezenet1_1",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_b0",
    "convnext_tiny",
)
