"""The datasets that arch knows, one declaration a file; the protocol is elsewhere and exists once."""

from __future__ import annotations

from arch_harness.datasets.catalog import (
    audio_mnist,
    demo,
    emovo,
    esc50,
    fma_small,
    fsd50k,
    irmas,
    medley_solos_db,
    mtt,
    ravdess,
    slurp,
    us8k,
    vivae,
)
from arch_harness.datasets.declaration import Declaration

# The twelve of ARCH, in its order.
ARCH = (
    esc50.DECLARATION,
    us8k.DECLARATION,
    fsd50k.DECLARATION,
    vivae.DECLARATION,
    fma_small.DECLARATION,
    mtt.DECLARATION,
    irmas.DECLARATION,
    medley_solos_db.DECLARATION,
    ravdess.DECLARATION,
    audio_mnist.DECLARATION,
    slurp.DECLARATION,
    emovo.DECLARATION,
)
DECLARATIONS: dict[str, Declaration] = {one.id: one for one in (*ARCH, demo.DECLARATION)}
