"""Hints for people who come from other libraries: what these call things.

Tables only; a test holds every entry to what exists here. Renames inside a library we adopt stand in the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping

# slot -> a name elsewhere -> the name here
COMPONENTS: Mapping[str, Mapping[str, str]] = {
    "transform": {
        "RandomHorizontalFlip": "HorizontalFlip",
        "RandomVerticalFlip": "VerticalFlip",
        "RandomRotation": "Rotate",
        "RandomAffine": "Affine",
        "RandomErasing": "CoarseDropout",
        "Cutout": "CoarseDropout",
        "RandomGrayscale": "ToGray",
        "Grayscale": "ToGray",
        "ImageCompress": "ImageCompression",
    },
    "loss": {"cross_entropy": "CrossEntropyLoss", "CE": "CrossEntropyLoss", "NLLLoss": "CrossEntropyLoss"},
    "scheduler": {
        "cosine": "CosineAnnealingLR",
        "onecycle": "OneCycleLR",
        "one_cycle": "OneCycleLR",
        "plateau": "ReduceLROnPlateau",
        "step": "StepLR",
        "multistep": "MultiStepLR",
        "warmup": "LinearLR",
    },
    "optimizer": {"momentum": "SGD", "adam_w": "AdamW"},
    "metric": {
        "acc": "Accuracy",
        "top5": "TopKAccuracy",
        "Top5": "TopKAccuracy",
        "balanced_accuracy_score": "BalancedAccuracy",
        "UAR": "BalancedAccuracy",
        "F1Score": "F1",
        "f1_score": "F1",
        "AUC": "AUROC",
        "ROCAUC": "AUROC",
        "roc_auc_score": "AUROC",
    },
    "dataset": {"folder": "ImageFolder", "imagefolder": "ImageFolder", "cifar": "CIFAR10"},
}

# an argument elsewhere -> the argument here, where the component has it
ARGUMENTS: Mapping[str, str] = {
    "learning_rate": "lr",
    "base_lr": "lr",
    "wd": "weight_decay",
    "pretrained": "weights",
    "n_classes": "num_classes",
    "prob": "p",
    "probability": "p",
    "path": "root",
    "data_dir": "root",
}

# a key elsewhere -> where it is said here
KEYS: Mapping[str, str] = {
    "amp": "train.precision",
    "mixed_precision": "train.precision",
    "num_epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "n_epochs": "train.epochs",
    "batchsize": "data.batch_size",
    "bs": "data.batch_size",
    "num_workers": "data.workers",
    "transforms": "data.augment",
    "train_transforms": "data.augment",
    "test_transforms": "data.eval",
    "val_transforms": "data.eval",
    "normalize": "data.preprocess",
    "dataset": "data.dataset",
    "gradient_clip_val": "train.clip_norm",
    "grad_clip": "train.clip_norm",
    "max_norm": "train.clip_norm",
    "accumulate_grad_batches": "train.accumulate",
    "gradient_accumulation_steps": "train.accumulate",
    "max_time": "train.max_minutes",
    "resume_from": "train.start_from",
    "checkpoint_path": "train.start_from",
    "mixup": "train.mix",
    "cutmix": "train.mix",
    "criterion": "loss",
    "network": "model",
    "arch": "model",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
    "label_smoothing": "loss.label_smoothing",
    "lr_scheduler": "scheduler",
    "find_lr": "lr_finder",
    "early_stopping": "callbacks",
    "logger": "callbacks",
    "loggers": "callbacks",
    "random_seed": "seed",
    "manual_seed": "seed",
    "base": "extends",
    "_base_": "extends",
    "defaults": "extends",
    "hooks": "callbacks",
}
