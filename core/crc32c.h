/* CRC-32C (Castagnoli), the checksum of Kafka's record batches and of our own WAL. */
#ifndef CORE_CRC32C_H
#define CORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin) over size bytes; final value, no further inversion needed. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
/* The same, copying to `to` in the same pass. No overlap. */
uint32_t crc32c_copy(uint32_t crc, void *to, const void *from, size_t size);

#endif
