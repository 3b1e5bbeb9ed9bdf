/* A safetensors file of hostile bytes. What is accepted must lie within the file. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_safetensors contents;
    struct moult_error error = {0};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    MOULT_REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    if (moult_safetensors_read(&contents, fd, size, "fuzz", &error) == 0) {
        uint64_t sum = 0;

        for (size_t i = 0; i < contents.count; i++) {
            const struct moult_tensor *tensor = &contents.tensors[i];

            MOULT_REQUIRE(tensor->offset <= size && tensor->bytes <= size - tensor->offset);
            MOULT_REQUIRE(moult_safetensors_find(&contents, tensor->name) == tensor);
            sum += tensor->bytes;
        }
        MOULT_REQUIRE(sum <= size);
        moult_safetensors_release(&contents);
    } else {
        MOULT_REQUIRE(error.message[0] != '\0');
    }
    close(fd);
    return 0;
}
