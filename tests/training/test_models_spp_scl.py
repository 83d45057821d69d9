import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.features import Features  # noqa: E402
from training.models.spp_scl import SPPSCL, MaskedBiLSTM  # noqa: E402

pytestmark = pytest.mark.train


def posts(rows: int = 6) -> Features:
    torch.manual_seed(2)
    mask = torch.ones(rows, 7, dtype=torch.int64)
    return Features(torch.randn(rows, 4, 7, 16), mask, torch.randn(rows, 9, 12), torch.arange(rows) % 3)


def test_masked_lstm_equals_a_packed_one() -> None:
    torch.manual_seed(0)
    ours = MaskedBiLSTM(width=5, hidden=3)
    reference = torch.nn.LSTM(5, 3, bias=False, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for half, suffix in ((ours.onward, ""), (ours.backward_half, "_reverse")):
            for weight in ("weight_ih_l0", "weight_hh_l0"):
                getattr(reference, weight + suffix).copy_(getattr(half, weight))
    states, lengths = torch.randn(3, 6, 5), torch.tensor([6, 2, 4])
    mask = (torch.arange(6) < lengths[:, None]).float()
    packed = torch.nn.utils.rnn.pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(states, mask) * mask[..., None], expected)


def test_the_second_step_waits_for_inconsistent_pairs() -> None:
    torch.manual_seed(0)
    widths = {"text_width": 16, "image_width": 12}
    assert SPPSCL(**widths, threshold=0.0).second_loss(posts()) is None
    assert SPPSCL(**widths, threshold=100.0).second_loss(posts()).item() > 0
    assert SPPSCL(**widths, threshold=100.0, strategy="one_step").second_loss(posts()) is None
    assert SPPSCL(**widths, threshold=100.0, use_inter=False).second_loss(posts()) is None


def test_arguments_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"layers must be 1\.\.4, got 5"):
        SPPSCL(text_width=16, image_width=12, layers=5)
    with pytest.raises(ValueError, match="reads 2 text layers, got 4"):
        SPPSCL(text_width=16, image_width=12, layers=2).loss(posts())
