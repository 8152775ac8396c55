// The words of tick.cu on a CUDA device.
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)
#define FUNCTION static __device__ __forceinline__
// As much as the launch says: a device has more than a program can ask for by itself.
#define ROOM(room)                                                                                                     \
    extern __shared__ __align__(8) unsigned char bytes[];                                                              \
    Room *room = (Room *)bytes
#define CONSTANT static __constant__
#define THREAD threadIdx.x
#define TURN blockIdx.x
#define INFINITY __int_as_float(0x7f800000)

FUNCTION void barrier() { __syncthreads(); }

// The sum over eight neighbouring threads, for each of them.
FUNCTION float sum_of_8(float value) {
    value += __shfl_xor_sync(0xffffffffu, value, 4);
    value += __shfl_xor_sync(0xffffffffu, value, 2);
    return value + __shfl_xor_sync(0xffffffffu, value, 1);
}

// Adds to a counter that all blocks share; gives what it was before.
FUNCTION unsigned int reserve(unsigned int *counter, unsigned int count) { return atomicAdd(counter, count); }
