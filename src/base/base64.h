/* Base64 as RFC 4648 has it in section 4: padded, without line breaks. */
#ifndef MOULT_BASE_BASE64_H
#define MOULT_BASE_BASE64_H

#include <stddef.h>

/* Bytes of the text for `size` bytes, without a NUL. */
#define MOULT_BASE64_SIZE(size) (((size) + 2) / 3 * 4)

/* Writes MOULT_BASE64_SIZE(size) characters and a NUL. */
void moult_base64_write(char *text, const void *bytes, size_t size);

/* Reads `text_size` characters; the padding at the end may be left out. Returns how many
 * bytes they are, or -1 where they are no base64 or more than `size_max` bytes. */
long moult_base64_read(void *bytes, size_t size_max, const char *text, size_t text_size);

#endif
