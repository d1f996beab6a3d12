"""Recipes that several test folders run."""

EVERYTHING = """
version: 1
name: everything
seed: 3
data:
  dataset: {type: Shapes, train_size: 92, val_size: 40, test_size: 20}
  batch_size: 16
  eval_batch_size: 32
  augment:
    - {type: HorizontalFlip, p: 0.5}
    - {type: Blur, blur_limit: [3, 3], p: 0.5}
  preprocess: [{type: Normalize, mean: $data.mean, std: $data.std}]
model: {type: SmallCNN, dropout: 0.3}
regularizers: [{type: L1, strength: 1e-5}, {type: L2, strength: 1e-3}]
optimizer: {type: SGD, lr: 0.02, momentum: 0.9, nesterov: true}
scheduler: {type: OneCycleLR, max_lr: 0.1}
train:
  epochs: 3
  accumulate: 2
  clip_norm: 1.0
  precision: fp32
  ema: {decay: 0.8}
  mix: {type: MixUp, alpha: 0.3, p: 0.5}
  log_every: 2
  checkpoint: {keep: 1}
callbacks: [TensorBoard, ParameterNorms, {type: EarlyStopping, patience: 50}]
report: [Curves]
"""
