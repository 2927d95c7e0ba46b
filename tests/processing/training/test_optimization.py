import copy

import pytest
import torch
from torch.utils.data import DataLoader

from stsun_processing.training.optimization import BatchedMuon, MuonAdamW, fit, orthogonalize


class Net(torch.nn.Module):
    """A bit of everything that is trained: a matrix, a table, a convolution, vectors; and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(5, 6)
        self.linear = torch.nn.Linear(6, 4)
        self.convolution = torch.nn.Conv1d(4, 3, 1)
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.frozen(self.convolution(self.linear(self.table(ids)).mT).mT).square().mean()


def train_net(net: Net, optimizers: list, steps: range) -> None:
    for step in steps:
        for optimizer in optimizers:
            optimizer.zero_grad()
        net(torch.randint(5, (2, 7), generator=torch.Generator().manual_seed(step))).backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.fixture
def exact_torch(monkeypatch):
    """torch's Muon without the rounding of its iterations to bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


def test_matrices_follow_muon_and_all_else_adamw(exact_torch):
    torch.manual_seed(0)
    one, two = Net(), Net()
    two.load_state_dict(one.state_dict())
    matrix = two.linear.weight
    others = [p for p in two.parameters() if p.requires_grad and p is not matrix]
    train_net(one, [MuonAdamW(one, 1e-2, weight_decay=0.1)], range(5))
    train_net(
        two,
        [
            torch.optim.Muon([matrix], 1e-2, 0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.1},
                    {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
                ],
                1e-2,
                (0.9, 0.98),
            ),
        ],
        range(5),
    )
    for (name, mine), theirs in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


SHAPES = [(6, 6), (6, 6), (3, 8), (8, 3), (3, 8), (1, 5), (40, 24)]


def matrices_with_gradients(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return parameters


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_batched_muon_takes_the_steps_of_torch(scale, exact_torch):
    mine, theirs = matrices_with_gradients(0, scale), matrices_with_gradients(0, scale)
    batched = BatchedMuon(mine, 1e-2, 0.1)
    plain = torch.optim.Muon(theirs, 1e-2, 0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        batched.step()
        plain.step()
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(batched.state[one]["momentum_buffer"], plain.state[two]["momentum_buffer"])


def test_batched_muon_leaves_out_what_has_no_gradient():
    parameters = matrices_with_gradients(0)
    parameters[1].grad = None
    kept = [parameter.detach().clone() for parameter in parameters]
    BatchedMuon(parameters, 1e-2, 0.1).step()
    changed = [not torch.equal(one, two) for one, two in zip(parameters, kept, strict=True)]
    assert changed == [index != 1 for index in range(len(SHAPES))]


def test_updates_are_nearly_orthogonal_and_of_the_size_of_adamw():
    parameters = matrices_with_gradients(1)
    before = [parameter.detach().clone() for parameter in parameters]
    BatchedMuon(parameters, 1e-2, 0.0).step()
    for parameter, start in zip(parameters, before, strict=True):
        update = (start - parameter.detach()) / 1e-2
        values = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
        assert values.min() > 0.5
        assert values.max() < 1.3
        # That of AdamW is about 0.2 to 0.4 (arXiv 2502.16982).
        assert 0.1 < update.square().mean().sqrt() < 0.3


def test_matrices_are_orthogonalised_each_by_itself():
    stacked = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    settings = (3.4445, -4.7750, 2.0315), 5, 1e-7
    alone = torch.cat([orthogonalize(matrix[None], *settings) for matrix in stacked])
    torch.testing.assert_close(orthogonalize(stacked, *settings), alone)
    # The sign of a matrix: its polar factor is that of its multiples.
    torch.testing.assert_close(orthogonalize(100 * stacked, *settings), alone)


def test_the_optimizer_goes_on_from_its_saved_state():
    torch.manual_seed(0)
    whole, resumed = Net(), Net()
    optimizer = MuonAdamW(whole, 1e-2)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer)
    train_net(whole, [optimizer], range(3))
    scheduler.step()
    resumed.load_state_dict(whole.state_dict())
    other = MuonAdamW(resumed, 1e-2)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in optimizer.param_groups]
    train_net(whole, [optimizer], range(3, 6))
    train_net(resumed, [other], range(3, 6))
    for mine, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(whole.linear.weight, Net().linear.weight)


def test_accumulated_batches_are_one_step_of_their_mean():
    torch.manual_seed(0)
    one, two = Net(), Net()
    two.load_state_dict(one.state_dict())
    ids = torch.randint(5, (8, 7))
    start = one.linear.weight.detach().clone()
    fit(one, DataLoader(ids, 4), MuonAdamW(one, 1e-2), lambda batch: one(batch))
    fit(two, DataLoader(ids, 2), MuonAdamW(two, 1e-2), lambda batch: two(batch), accumulation=2)
    for mine, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.equal(one.linear.weight, start)
    assert not one.training


def test_a_loss_that_is_no_number_ends_the_training():
    torch.manual_seed(0)
    net = Net()
    batches = DataLoader(torch.randint(5, (6, 7)), batch_size=2)
    optimizer = MuonAdamW(net, 1e-2)
    factors = iter((1.0, torch.nan))
    with pytest.raises(FloatingPointError, match="loss is nan in step 2"):
        fit(net, batches, optimizer, lambda ids: net(ids) * next(factors))
