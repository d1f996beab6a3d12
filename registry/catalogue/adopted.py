"""What comes in by a rule alone: our own folders, what torchvision has, Albumentations' transforms.

Owns these rules. Slots whose rule stands beside their code have it there: losses, mixes, schedulers, optimizers.
"""

from __future__ import annotations

from registry.catalogue.adoption import Noted, Registry
from registry.datasets.torchvision import TorchvisionDatasets
from registry.models.torchvision import TorchvisionModels
from registry.transforms.upstream import AlbumentationsTransforms, TorchvisionPolicies

MODELS = Registry("model")
MODELS.adopt_own("registry.models", base="torch.nn:Module")
MODELS.rules.append(TorchvisionModels())

DATASETS = Registry("dataset")
DATASETS.adopt_own("registry.datasets", base="registry.contracts:ImageSource", marked_by="facts")
DATASETS.rules.append(
    Noted(
        TorchvisionDatasets(),
        ["FER2013", "Flowers102", "ImageNet", "PCAM", "Places365", "QMNIST", "STL10", "StanfordCars"],
        {"not_run": "no test opens its files; its arguments and splits are held against upstream's signature"},
    )
)

TRANSFORMS = Registry("transform")
TRANSFORMS.adopt_own("registry.transforms", base="registry.transforms.contract:OwnTransform")
TRANSFORMS.rules.append(TorchvisionPolicies())
TRANSFORMS.rules.append(AlbumentationsTransforms())

REGULARIZERS = Registry("regularizer")
REGULARIZERS.adopt_own("registry.regularizers", base="registry.contracts:Regularizer")

METRICS = Registry("metric")
METRICS.adopt_own("registry.metrics", base="registry.contracts:Metric")

CALLBACKS = Registry("callback")
CALLBACKS.adopt_own("registry.callbacks", base="registry.contracts:Callback")
CALLBACKS.adopt_own("registry.callbacks", base="registry.recording:Sink")

REPORTS = Registry("report")
REPORTS.adopt_own("registry.reports", base="registry.contracts:ReportPart")
