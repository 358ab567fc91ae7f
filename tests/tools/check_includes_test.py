#!/usr/bin/env python3
"""tools/check_includes finds each kind of fault in a tree made for it, and none in a good one."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check_includes"

GOOD = {
    "src/base/error.h": "#pragma once\n#include <string>\n",
    "src/frontend/fbank.h": '#pragma once\n#include "src/base/error.h"\n',
    "src/frontend/fbank.cc": '#include "src/frontend/fbank.h"\n#include <kissfft/kissfft.hh>\n',
    "src/nn/encoder.h": "// What it is.\n#pragma once\n#include <torch/types.h>\n",
    "src/nn/encoder.cc": '#include "src/nn/encoder.h"\n#include <torch/torch.h>\n',
    "tests/nn/encoder_test.cc": '#include "src/nn/encoder.h"\n#include <torch/torch.h>\n'
                                '#include "tests/support/near.h"\n',
    "tests/support/near.h": "#pragma once\n",
    "tools/cli/main.cc": '#include <CLI/CLI.hpp>\n#include "src/nn/encoder.h"\n',
}


def check(files):
    """(exit status, lines) of the program over a tree of these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        run = subprocess.run([sys.executable, PROGRAM, folder], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout.splitlines() + run.stderr.splitlines()


class CheckIncludesTest(unittest.TestCase):
    def test_a_good_tree_passes(self):
        self.assertEqual(check(GOOD), (0, []))

    def assert_fault(self, name, content, where, words):
        status, lines = check({**GOOD, name: content})
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(where + ": "), lines[0])
        self.assertIn(words, lines[0])

    def test_include_against_the_order(self):
        self.assert_fault("src/base/log.cc", '#include "src/frontend/fbank.h"\n', "src/base/log.cc:1", "folder order")

    def test_a_test_keeps_the_order_of_its_folder(self):
        self.assert_fault("tests/frontend/fbank_test.cc", '#include "src/nn/encoder.h"\n',
                          "tests/frontend/fbank_test.cc:1", "folder order")

    def test_src_does_not_include_tests(self):
        self.assert_fault("src/base/log.cc", '#include "tests/support/near.h"\n', "src/base/log.cc:1", "folder order")

    def test_torch_in_a_folder_that_is_free_of_it(self):
        for header in ("torch/types.h", "ATen/ATen.h", "c10/util/Optional.h"):
            self.assert_fault("src/audio/a.cc", f"\n#include <{header}>\n", "src/audio/a.cc:2", "free of torch")

    def test_modules_of_torch_where_only_tensors_are_granted(self):
        self.assert_fault("src/decode/a.cc", "#include <torch/nn.h>\n", "src/decode/a.cc:1", "only ATen/")

    def test_whole_torch_in_a_header(self):
        self.assert_fault("src/nn/a.h", "#pragma once\n#include <torch/torch.h>\n", "src/nn/a.h:2", "in a header")

    def test_a_library_outside_the_folder_that_wraps_it(self):
        self.assert_fault("src/data/a.cc", "#include <sndfile.h>\n", "src/data/a.cc:1", "belongs to audio")

    def test_quotes_without_the_path_from_the_root(self):
        self.assert_fault("src/frontend/a.cc", '#include "fbank.h"\n', "src/frontend/a.cc:1", "from its root")

    def test_an_include_of_a_file_that_is_not_there(self):
        self.assert_fault("src/frontend/a.cc", '#include "src/base/gone.h"\n', "src/frontend/a.cc:1", "from its root")

    def test_header_without_pragma_once(self):
        self.assert_fault("src/base/a.h", "int x;\n", "src/base/a.h:1", "pragma once")
        self.assert_fault("src/base/a.h", "#include <string>\n#pragma once\n", "src/base/a.h:1", "pragma once")

    def test_own_header_is_not_first(self):
        self.assert_fault("src/base/error.cc", '#include <string>\n#include "src/base/error.h"\n',
                          "src/base/error.cc:1", "own")

    def test_a_folder_without_a_place_in_the_order(self):
        self.assert_fault("src/extra/a.h", "#pragma once\n", "src/extra", "no place")


if __name__ == "__main__":
    unittest.main()
