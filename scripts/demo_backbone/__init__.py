"""Pretrain the small Vision Transformer that `lpt demo` keeps frozen.

The demo adapts a frozen backbone to handwritten digits, so the backbone must never have seen one. It learns to
tell apart letters and symbols of many scripts, rendered from the DejaVu and STIX fonts that matplotlib ships.
Left out: every code point of Unicode category N, everything whose compatibility decomposition or name holds a
number, and every glyph whose picture nearly equals that of one of the digits 0-9 in its own font. The
handwritten digits play no part in any choice made here; whatever is measured is measured on glyph renders that
were held out of training.

Command::

    python -m scripts.demo_backbone --minutes 19.3 --threads 1 --work /tmp/lpt-demo-backbone

It ran on one thread of a 2-core Intel Xeon with AMX (bfloat16), which other processes shared: 1159 s, 2230 steps,
285,440 images of 1,000 classes. Result: 49.9 % top-1 on 1,250 held-out renders, 39.9 % with the training
augmentation. The schedule follows the clock, so a second run comes out alike, not equal.
The command in the committed `model.json` names the single file that this package was at the time.

It writes `src/lpt/demo/backbone/model.safetensors` (float16, no head) and `model.json`. Interrupted, the
same command goes on from its last checkpoint, at most two minutes old.
"""
