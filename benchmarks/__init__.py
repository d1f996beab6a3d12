"""Speed, measured side by side: `python -m benchmarks [name ...]`. Ratios of variants interleaved in one run."""
