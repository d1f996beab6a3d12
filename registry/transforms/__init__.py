"""Image transforms: batched versions of Albumentations' own, and the few that it lacks."""
