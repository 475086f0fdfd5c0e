/* mulun-worker --watch: a process that looks at GPUs for the daemon, by NVML and nothing else, so that whoever hangs in
 * a driver is this process alone.
 *
 * On its output a line of JSON whenever something has changed, and one for each line of its input, which is a
 * question's number:
 *   {"answers": 7, "devices": [{"uuid": .., "lost": "why", "ecc": uncorrectable errors, "energy_mj": counter,
 *                               "processes": [{"pid": .., "bytes": ..}, ..]}, ..]}
 *   {"uuid": .., "xid": 79}     as the driver tells of it
 *   {"none": "why"}             it cannot look at any, and ends
 * What is not known is left out. */
#pragma once

/* Looks by itself every so many ms, until its input ends. Returns the exit code. */
int watch(int every_ms, int n_uuids, char **uuids);
