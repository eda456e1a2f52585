"""What a variant of the solver gives the linker: its table, and no code of any other name."""
import os
import subprocess
import unittest

VARIANT = os.environ["KVFOLD_VARIANT"]  # without _open.o (what was compiled) and .o (what is linked)


def output_of(program, *arguments):
    return subprocess.run([os.environ[program], *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def global_symbols(file):
    lines = output_of("CMAKE_NM", "--extern-only", "--defined-only", file).splitlines()
    return {line.split()[-1] for line in lines if line.strip()}


def sections(file):
    return {line.split()[1] for line in output_of("CMAKE_OBJDUMP", "--section-headers", file).splitlines()
            if line.strip()[:1].isdigit()}


class Variant(unittest.TestCase):
    def test_the_table_is_the_only_symbol(self):
        self.assertEqual(global_symbols(f"{VARIANT}.o"), {os.environ["KVFOLD_TABLE"]})
        # The broken twin: what was compiled defines functions of the standard library as well.
        self.assertTrue([name for name in global_symbols(f"{VARIANT}_open.o") if name.startswith(("_ZSt", "_ZNSt"))])

    def test_no_group_is_left_of_which_a_linker_keeps_one(self):
        self.assertNotIn(".group", sections(f"{VARIANT}.o"))

    def test_nothing_runs_when_the_program_is_loaded(self):
        self.assertFalse({name for name in sections(f"{VARIANT}.o") if name.startswith((".init", ".ctors"))})
