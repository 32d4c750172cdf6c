#ifndef SLUICE_LIBDEFLATE_H
#define SLUICE_LIBDEFLATE_H

#include <libdeflate.h>

#endif
