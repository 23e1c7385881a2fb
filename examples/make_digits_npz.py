"""Write scikit-learn's digits as images, for `convnet_npz.py`: `images.npz` beside this file.

python examples/make_digits_npz.py [PATH]
"""

import sys
from pathlib import Path

import numpy as np

from p2pfl.learning.datasets import digits


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("images.npz")
    (x, y), (x_test, y_test) = digits().train, digits().test
    shape = (-1, 1, 8, 8)
    np.savez(path, x=x.reshape(shape), y=y, x_test=x_test.reshape(shape), y_test=y_test)
    print(f"{path}: {len(x)} images to train on, {len(x_test)} to test on")


if __name__ == "__main__":
    main()
