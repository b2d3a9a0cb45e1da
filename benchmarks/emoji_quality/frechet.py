"""The Frechet distance of two sets of pictures, by the features of the classifier."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from emoji_quality.classifier import Classifier
from emoji_quality.colour import FloatArray

Matrix = npt.NDArray[np.float64]


def picture_distance(classifier: Classifier, a: FloatArray, b: FloatArray, batch: int = 64) -> float:
    """Of pictures (B, 3, H, W). It shrinks with their number, so compare only sets of one size."""
    return frechet(*(features(classifier, pictures, batch) for pictures in (a, b)))


def features(classifier: Classifier, pictures: FloatArray, batch: int) -> Matrix:
    """Features (B, F) of pictures."""
    images = torch.from_numpy(np.clip(pictures, -1, 1))
    parts = [classifier.features(images[first : first + batch]) for first in range(0, len(images), batch)]
    return torch.cat(parts).double().numpy()


def frechet(a: Matrix, b: Matrix) -> float:
    """Of the normal distributions with the means and covariances of samples (B, F)."""
    first, second = (np.cov(x, rowvar=False) for x in (a, b))
    root = square_root(first)
    shared = np.linalg.eigvalsh(root @ second @ root)  # those of first @ second
    means = np.square(a.mean(0) - b.mean(0)).sum()
    return float(means + np.trace(first + second) - 2 * np.sqrt(np.maximum(shared, 0)).sum())


def square_root(covariance: Matrix) -> Matrix:
    """Of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = np.linalg.eigh(covariance)
    root: Matrix = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root
