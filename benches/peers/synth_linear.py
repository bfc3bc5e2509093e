"""How far linear classifiers get on the raw pixels of a dataset that `glasses ingest` or `glasses synth` wrote.

    glasses synth --out faces.h5
    python3 benches/peers/synth_linear.py faces.h5

Needs h5py and scikit-learn. Every picture is standardised per channel, as `glasses` does before its network sees it;
then logistic regression, ridge and a linear support vector machine are fitted to /train at several strengths of
regularisation and judged on /test. The best line is the best that a linear classifier can claim, chosen by looking at
the test rows: an upper bound.
"""

import argparse
import warnings

import h5py
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC


def rows(file, split, limit):
    images = file[split]["images"][:limit].astype(np.float32)
    mean = images.mean(axis=(1, 2), keepdims=True)
    deviation = images.std(axis=(1, 2), keepdims=True)
    images = (images - mean) / np.maximum(deviation, 1e-6)
    return images.reshape(len(images), -1), file[split]["labels"][:limit]


def dual(train):
    """With fewer rows than pixels, the rows span all that is learnt: an exact change of basis to as many numbers."""
    _, values, basis = np.linalg.svd(train, full_matrices=False)
    return basis[values > values[0] * 1e-6].T


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--rows", type=int, default=None, help="training rows to use; default all")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with h5py.File(arguments.dataset) as file:
        train, train_labels = rows(file, "train", arguments.rows)
        test, test_labels = rows(file, "test", None)
    center = train.mean(axis=0)
    train, test = train - center, test - center
    basis = dual(train)
    train, test = train @ basis, test @ basis
    # Pixels have a deviation near 1; the sum over thousands of them calls for strong regularisation.
    models = [("logistic C=%g" % c, LogisticRegression(C=c, max_iter=300)) for c in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1)]
    models += [("ridge alpha=%g" % a, RidgeClassifier(alpha=a)) for a in (1e3, 1e4, 1e5, 1e6)]
    models += [("linear SVM C=%g" % c, LinearSVC(C=c, max_iter=2000)) for c in (1e-6, 1e-5, 1e-4, 1e-3)]
    best = 0.0
    for name, model in models:
        model.fit(train, train_labels)
        fitted, accuracy = model.score(train, train_labels), model.score(test, test_labels)
        best = max(best, accuracy)
        print(f"{name:20} train {fitted:.4f}  test {accuracy:.4f}", flush=True)
    print(f"best linear test accuracy {best:.4f} ({len(train)} training rows, {len(test)} test rows)")


if __name__ == "__main__":
    main()
