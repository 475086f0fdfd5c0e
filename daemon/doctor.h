/* mulund --doctor: what a start would meet here, without starting. */
#pragma once

struct settings;

/* Prints a line for each thing that was looked at; the exit status: 0, or 1 when the daemon or its jobs would fail. */
int doctor(const struct settings *s);
