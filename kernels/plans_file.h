/* Choices of ways to compute a shape, kept in a folder so that every later device there computes the same bits: a key,
 * which names processor or GPU, libraries and shape, and a choice, both in printable characters. Back ends say what
 * they mean. The file is described in plans_file.c. */
#pragma once

#include "base/error.h"

struct plans_file;

/* Opens the choices of a folder that is there. A file that is damaged or foreign is set aside (plans.damaged). An error
 * where the folder cannot be written: what cannot be kept is not to be measured. */
int plans_file_open(const char *folder, struct plans_file **ret, struct error *err);
struct plans_file *plans_file_close(struct plans_file *p);

/* Hands the choices that are kept for a key to `take`, the oldest first, until it takes one (true). choice is its own
 * until it returns. */
typedef bool plans_take(void *user, const char *choice);
bool plans_file_find(const struct plans_file *p, const char *key, plans_take *take, void *user);

/* Keeps a choice, unless another process has kept one meanwhile that is taken: then that wins. Negative: not kept. */
int plans_file_keep(struct plans_file *p, const char *key, const char *choice, plans_take *take, void *user);

#define PLANS_KEY_SIZE 384
#define PLANS_CHOICE_SIZE 256

/* Copies text with what is not printable as a space. */
void plans_printable(char *to, size_t size, const char *text);
