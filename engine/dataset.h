/* Images by index, from files that are mapped, never copied whole. The order in which training meets them is
 * philox_permutation (kernels/philox.h). */
#pragma once

#include "base/json.h"
#include "contract/config.h"

#define IMAGE_SIDE 32
#define IMAGE_CHANNELS 3
#define IMAGE_PIXELS 1024
#define IMAGE_BYTES 3072 /* 32 x 32 x 3 */

struct dataset;

/* Opens a folder or file; the format is recognised by what is there. cifar10 (data/cifar.h): a folder of
 * data_batch_*.bin and test_batch.bin. images (data/images.h): what an import has written.
 * Errors name the file and what was expected (a size that is not a multiple of 3,073 bytes: where it is cut). */
int dataset_open(const char *path, struct dataset **ret, struct error *err);
struct dataset *dataset_free(struct dataset *d);

const char *dataset_format(const struct dataset *d); /* "cifar10", "images" */
int64_t dataset_count(const struct dataset *d, enum split split);

/* What a person should hear about its files, as a line; "" when all is as expected. */
void dataset_remark(const struct dataset *d, char *ret, size_t size);

/* XXH128 over what its files hold (each format says what that is), 32 hexadecimal digits. Reads everything. -EBADMSG
 * where a file holds its own digest and that is another. */
int dataset_digest(const struct dataset *d, char ret[DIGEST_SIZE], struct error *err);

/* Mean of the training images' values, 0 to 255, by channel. May read everything. */
void dataset_mean(const struct dataset *d, double ret[IMAGE_CHANNELS]);

/* Where imported images came from (data/images.h), borrowed; NULL for others. */
const json_t *dataset_provenance(const struct dataset *d);

/* Image index of split as [32, 32, 3] values, row, column, channel (spec: value (32 h + w) 3 + c). */
void dataset_image(const struct dataset *d, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES]);

DEFINE_CLEANUP(struct dataset *, dataset_free);
