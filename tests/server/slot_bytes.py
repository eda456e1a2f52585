"""Slot files by their bytes, read apart from kvfold's own codec: the tokens, and where the keys and values of a cell lie."""
import random
import struct


class SlotBytes:
    """The first section of a slot file of one stream whose values are rows (flash attention on), fp16."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.at = 0
        self.magic, self.version, count = self.take("4sII")
        self.tokens = list(self.take(f"{count}i"))
        streams, cells = self.take("II")
        assert streams == 1, streams
        self.positions = []
        for _ in range(cells):
            position, sequences = self.take("iI")
            self.take(f"{sequences}i")
            self.positions.append(position)
        transposed, layers = self.take("II")
        assert transposed == 0
        # Of the keys of each layer, then of the values: (offset of the first row, bytes of a row).
        self.rows = self.take_rows(layers, cells) + self.take_rows(layers, cells)

    def take(self, form):
        fields = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return fields

    def take_rows(self, layers, cells):
        rows = []
        for _ in range(layers):
            kind, size = self.take("iQ")
            fp16 = 1
            assert kind == fp16, kind
            rows.append((self.at, size))
            self.at += size * cells
        return rows

    def folded_cells(self):
        """Cells between the first and the last gap of the positions, with those that border on the gaps."""
        order = self.positions
        assert order == sorted(order)
        gaps = [i for i in range(1, len(order)) if order[i] != order[i - 1] + 1]
        return range(gaps[0], gaps[-1] + 1)

    def with_shuffled_rows(self):
        """The same file with the numbers inside each folded key and value in another order: finite, of the same
        size and spread, still a valid file, but no longer what the model stored."""
        damaged = bytearray(self.data)
        chance = random.Random(1)
        for start, size in self.rows:
            for cell in self.folded_cells():
                at = start + cell * size
                numbers = list(struct.unpack_from(f"<{size // 2}H", self.data, at))
                chance.shuffle(numbers)
                struct.pack_into(f"<{size // 2}H", damaged, at, *numbers)
        return bytes(damaged)
