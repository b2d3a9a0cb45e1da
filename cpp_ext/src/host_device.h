// Marks functions that both backends share.
#pragma once

#ifdef __CUDACC__  // an annotation of the compiler, not a choice of backend
#define FLAGDIT_HOST_DEVICE __host__ __device__
#else
#define FLAGDIT_HOST_DEVICE
#endif
