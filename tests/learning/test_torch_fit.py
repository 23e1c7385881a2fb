"""What does not fit is said before training, with both shapes."""

import math

import pytest
import torch
from torch import nn

from p2pfl.errors import TaskError
from p2pfl.learning.torch_fit import check_fit, right_share, usual_loss

SCORES = torch.zeros(8, 3, requires_grad=True)
CLASSES = torch.zeros(20, dtype=torch.int64)


def test_the_usual_loss_is_cross_entropy_for_classes_and_squares_for_numbers():
    outputs, classes = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([1, 1])
    assert usual_loss(outputs, classes) == nn.functional.cross_entropy(outputs, classes)
    assert usual_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])) == 2.0


def test_right_are_the_labels_with_the_largest_score():
    outputs = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    assert right_share(outputs, torch.tensor([1, 1, 1, 0])) == 0.75
    pixels = outputs.reshape(2, 2, 2, 1)
    assert 0 <= right_share(pixels, torch.zeros(2, 2, 1, dtype=torch.int64)) <= 1


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(4, 1), torch.zeros(4)),
        (torch.zeros(4), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64)),
    ],
)
def test_without_scores_of_classes_there_is_no_right(outputs, targets):
    assert math.isnan(right_share(outputs, targets))


@pytest.mark.parametrize(
    ("outputs", "y"),
    [
        (SCORES, CLASSES),
        (SCORES[:, :1], torch.zeros(20)),
        (SCORES[:, 0], torch.zeros(20, 1)),
        (SCORES.reshape(4, 3, 2), torch.zeros(20, 2, dtype=torch.int64)),
    ],
)
def test_what_fits_passes(outputs, y):
    check_fit("train_data()", outputs, y, usual_loss)


@pytest.mark.parametrize(
    ("outputs", "y", "said"),
    [
        ((SCORES, SCORES), CLASSES, "the model gives tuple, expected one tensor"),
        (SCORES.sum(), CLASSES, r"the model gives Tensor of shape \(\), expected one tensor"),
        (SCORES, CLASSES + 3, r"y has class 3, the model gives 3 outputs: classes must be 0 .. 2"),
        (SCORES, CLASSES[:, None], r"y has classes of shape \(20, 1\), .* shape \(20, 3\)"),
        (SCORES[:, 0], CLASSES, r"outputs of shape \(20,\), expected .* one output per class"),
        (SCORES, torch.zeros(20), r"floating targets of shape \(20,\), .* \(classes are integers"),
    ],
)
def test_what_does_not_fit_the_usual_loss_is_said_with_both_shapes(outputs, y, said):
    with pytest.raises(TaskError, match=r"^train_data\(\): .*" + said):
        check_fit("train_data()", outputs, y, usual_loss)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda o, t: o.sum(dim=1), r"loss\(\) gives Tensor of shape \(8,\)"),
        (lambda o, t: 1.0, r"loss\(\) gives float, expected a tensor with one number"),
        (lambda o, t: o.detach().sum(), "does not depend on the parameters"),
    ],
)
def test_a_loss_that_cannot_be_descended_is_refused(loss, said):
    with pytest.raises(TaskError, match=said):
        check_fit("train_data()", SCORES, CLASSES, loss)
