// The words of tick.cu on a CUDA device: an agent has a warp.

// The more agents a block has, the fewer registers each of them has; a block has a multiprocessor for itself. These are
// the best of 20 to 32 on an H100.
#define MOST_AGENTS (LINEAR ? 28 : 24)
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS *MOST_AGENTS)
#define FUNCTION static __device__ __forceinline__
// A function with registers of its own: what is in hand around it waits elsewhere.
#define OUTLINED static __device__ __noinline__
// As much as the launch says: a device has more than a program can ask for by itself.
#define SHARED(shared, room)                                                                                           \
    extern __shared__ __align__(16) unsigned char bytes[];                                                             \
    float *shared = (float *)bytes;                                                                                    \
    Room *room = (Room *)(shared + SHARED_CONSTANTS) + AGENT
#define ALIGNED __align__(16)
#define CONSTANT static __constant__
#define UNROLL _Pragma("unroll")
#define PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(count) PRAGMA(unroll count)
#define THREAD threadIdx.x
#define AGENT threadIdx.y
#define AGENTS blockDim.y
#define FIRST_TURN (blockIdx.x * blockDim.y + threadIdx.y)
#define TURNS_AT_ONCE (gridDim.x * blockDim.y)
#define INFINITY __int_as_float(0x7f800000)
#define EVERY_THREAD 0xffffffffu

// Waits for the threads of the agent, and for those of the block.
FUNCTION void barrier() { __syncwarp(); }
FUNCTION void everybody() { __syncthreads(); }

// The value of the thread whose number differs in the bits of the mask.
FUNCTION float exchange(float value, unsigned int mask) { return __shfl_xor_sync(EVERY_THREAD, value, mask); }
FUNCTION unsigned int exchange_place(unsigned int value, unsigned int mask) {
    return __shfl_xor_sync(EVERY_THREAD, value, mask);
}

// The value of the thread so many before; where there is none, anything.
FUNCTION float earlier(float value, unsigned int step) { return __shfl_up_sync(EVERY_THREAD, value, step); }
FUNCTION unsigned long long earlier_count(unsigned long long value, unsigned int step) {
    return __shfl_up_sync(EVERY_THREAD, value, step);
}

// A float that is not wanted again soon.
FUNCTION float passing(const float *place) { return __ldcs(place); }

// Brings the 128 bytes around a float nearer.
FUNCTION void prefetch(const float *place) { asm volatile("prefetch.global.L2 [%0];" ::"l"(place)); }

// Adds to a counter that all agents share; gives what it was before.
FUNCTION unsigned int reserve(unsigned int *counter, unsigned int count) { return atomicAdd(counter, count); }

// To two units in the last place.
FUNCTION float quotient(float dividend, float divisor) { return __fdividef(dividend, divisor); }
