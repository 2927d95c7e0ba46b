import copy

import pytest
import torch
from torch.utils.data import DataLoader

from stsun_processing.training.optimization import MuonAdamW, fit


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


def test_matrices_follow_muon_and_all_else_adamw():
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
