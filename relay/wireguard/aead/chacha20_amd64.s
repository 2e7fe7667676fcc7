#include "go_asm.h"
#include "textflag.h"

// ChaCha20 (RFC 8439, section 2.4) with AVX-512: sixteen blocks at once, one in
// each 32-bit lane, wherever the blocks come from. Lanes are filled from a list
// of jobs, so that one group of sixteen may hold the end of one packet, all of
// the next, and the start of a third, each with its own key and nonce.
//
// One group goes through five steps:
//
//	fill       for each packet that takes part, broadcast its key, counter and
//	           nonce into its lanes, and write down address and byte mask of
//	           every lane
//	rounds     ten double rounds on Z0-Z15 (register = state word, lane = block)
//	add        the initial state
//	transpose  to register = block
//	xor        each block into its 64 bytes of memory, in place
//
// Registers of a group:
//
//	Z0-Z15   the working state; after the transposition, the sixteen blocks
//	Z16-Z23  key words (state words 4-11)
//	Z24      block counters (word 12)
//	Z25-Z26  nonce (words 14 and 15; word 13 is zero in WireGuard, section 5.4.6)
//	Z16-Z31  second half of the transposition, when the initial state is done with
//
// The state never leaves the registers: the frame holds addresses and masks
// alone, so that there is no key stream to wipe from memory.
//
// The rounds bind this code: 960 instructions on the two 512-bit ports, 480
// cycles for 1 KiB. The fill is scalar code and runs beside them.

// The constants of state words 0-3 ("expand 32-byte k").
DATA sigma<>+0(SB)/4, $0x61707865
DATA sigma<>+4(SB)/4, $0x3320646e
DATA sigma<>+8(SB)/4, $0x79622d32
DATA sigma<>+12(SB)/4, $0x6b206574
GLOBL sigma<>(SB), RODATA|NOPTR, $16

// Lane numbers as 32-bit words.
DATA lanes<>+0(SB)/8, $0x0000000100000000
DATA lanes<>+8(SB)/8, $0x0000000300000002
DATA lanes<>+16(SB)/8, $0x0000000500000004
DATA lanes<>+24(SB)/8, $0x0000000700000006
DATA lanes<>+32(SB)/8, $0x0000000900000008
DATA lanes<>+40(SB)/8, $0x0000000b0000000a
DATA lanes<>+48(SB)/8, $0x0000000d0000000c
DATA lanes<>+56(SB)/8, $0x0000000f0000000e
GLOBL lanes<>(SB), RODATA|NOPTR, $64

// Byte offset of each lane's block from that of lane 0.
DATA steps<>+0(SB)/8, $0
DATA steps<>+8(SB)/8, $64
DATA steps<>+16(SB)/8, $128
DATA steps<>+24(SB)/8, $192
DATA steps<>+32(SB)/8, $256
DATA steps<>+40(SB)/8, $320
DATA steps<>+48(SB)/8, $384
DATA steps<>+56(SB)/8, $448
DATA steps<>+64(SB)/8, $512
DATA steps<>+72(SB)/8, $576
DATA steps<>+80(SB)/8, $640
DATA steps<>+88(SB)/8, $704
DATA steps<>+96(SB)/8, $768
DATA steps<>+104(SB)/8, $832
DATA steps<>+112(SB)/8, $896
DATA steps<>+120(SB)/8, $960
GLOBL steps<>(SB), RODATA|NOPTR, $128

// A quarter round (section 2.1): one chain of twelve dependent instructions. The
// CPU runs the four of a round side by side by itself; written in turns, by hand,
// they took 6 % longer, and with byte shuffles for the turns by 16 and 8, which
// only one of the two ports can do, 5 %.
#define QUARTER(a, b, c, d) \
	VPADDD b, a, a; VPXORD a, d, d; VPROLD $16, d, d; \
	VPADDD d, c, c; VPXORD c, b, b; VPROLD $12, b, b; \
	VPADDD b, a, a; VPXORD a, d, d; VPROLD $8, d, d;  \
	VPADDD d, c, c; VPXORD c, b, b; VPROLD $7, b, b

// First half of the transposition, for state words w0-w3: afterwards b<j> holds,
// in its four 128-bit chunks, these words of blocks j, 4+j, 8+j and 12+j.
// b0-b3 may be the same registers as w0-w3.
#define WORDS(w0, w1, w2, w3, t0, t1, t2, t3, b0, b1, b2, b3) \
	VPUNPCKLDQ  w1, w0, t0; \
	VPUNPCKHDQ  w1, w0, t1; \
	VPUNPCKLDQ  w3, w2, t2; \
	VPUNPCKHDQ  w3, w2, t3; \
	VPUNPCKLQDQ t2, t0, b0; \
	VPUNPCKHQDQ t2, t0, b1; \
	VPUNPCKLQDQ t3, t1, b2; \
	VPUNPCKHQDQ t3, t1, b3

// Second half: a 4x4 transposition of 128-bit chunks, in place.
#define CHUNKS(b0, b1, b2, b3, t0, t1, t2, t3) \
	VSHUFI32X4 $0x44, b1, b0, t0; \
	VSHUFI32X4 $0x44, b3, b2, t1; \
	VSHUFI32X4 $0xee, b1, b0, t2; \
	VSHUFI32X4 $0xee, b3, b2, t3; \
	VSHUFI32X4 $0x88, t1, t0, b0; \
	VSHUFI32X4 $0xdd, t1, t0, b1; \
	VSHUFI32X4 $0x88, t3, t2, b2; \
	VSHUFI32X4 $0xdd, t3, t2, b3

// XORs block z into the memory of its lane. Bytes outside the mask are neither
// read nor written: a masked access to them does not fault either.
#define APPLY(lane, z, k, t) \
	MOVQ        (lane*8)(SP), AX;      \
	KMOVQ       (128+lane*8)(SP), k;   \
	VMOVDQU8.Z  (AX), k, t;            \
	VPXORQ      t, z, t;               \
	VMOVDQU8    t, k, (AX)

// The same for a lane that has all of its 64 bytes.
#define APPLY64(lane, z) \
	MOVQ      (lane*8)(SP), AX; \
	VPXORQ    (AX), z, z;       \
	VMOVDQU64 z, (AX)

// func chacha16(jobs *job, n int)
//
//	SI, DI  this job, end of the jobs
//	R8      address of the next block of this job
//	R9      bytes that this job still wants, from there
//	R10     counter of that block
//	CX      first free lane
//	R11     not zero when a lane has less than 64 bytes
//	0(SP)   sixteen addresses, 128(SP) sixteen byte masks
//
// The frame is larger than what it holds: larger than that of poly8. Should the
// stack have to grow for either, it grows here, and not when one-time keys are on
// it, which would stay behind in the old one.
TEXT ·chacha16(SB), 0, $3840-16
	MOVQ  jobs+0(FP), SI
	MOVQ  n+8(FP), DI
	IMULQ $job__size, DI
	ADDQ  SI, DI
	CMPQ  SI, DI
	JAE   done
	MOVQ  job_data(SI), R8
	MOVQ  job_n(SI), R9
	MOVQ  job_counter(SI), R10

group:
	// A lane that stays free points at this frame with an empty mask.
	XORL         CX, CX
	XORL         R11, R11
	MOVQ         SP, AX
	VPBROADCASTQ AX, Z27
	VMOVDQU64    Z27, 0(SP)
	VMOVDQU64    Z27, 64(SP)
	VPXORQ       Z28, Z28, Z28
	VMOVDQU64    Z28, 128(SP)
	VMOVDQU64    Z28, 192(SP)
	VPTERNLOGQ   $0xff, Z29, Z29, Z29

fill:
	TESTQ R9, R9
	JNZ   take

	// This job is done: the next one.
	ADDQ $job__size, SI
	CMPQ SI, DI
	JAE  filled
	MOVQ job_data(SI), R8
	MOVQ job_n(SI), R9
	MOVQ job_counter(SI), R10
	JMP  fill

take:
	// The rounds hide the way of the first bytes to the cache; the prefetcher of
	// the CPU knows the rest.
	PREFETCHT0 (R8)

	// DX = how many lanes: blocks of the job, at most the lanes that are free.
	LEAQ    63(R9), DX
	SHRQ    $6, DX
	MOVL    $16, AX
	SUBQ    CX, AX
	CMPQ    DX, AX
	CMOVQGT AX, DX

	// K1 = these lanes, from CX on; K2 = those of them above lane 7.
	MOVL      $1, BX
	SHLXQ     DX, BX, BX
	DECQ      BX
	SHLXQ     CX, BX, BX
	KMOVW     BX, K1
	KSHIFTRW  $8, K1, K2

	MOVQ         job_key(SI), BX
	VPBROADCASTD 0(BX), K1, Z16
	VPBROADCASTD 4(BX), K1, Z17
	VPBROADCASTD 8(BX), K1, Z18
	VPBROADCASTD 12(BX), K1, Z19
	VPBROADCASTD 16(BX), K1, Z20
	VPBROADCASTD 20(BX), K1, Z21
	VPBROADCASTD 24(BX), K1, Z22
	VPBROADCASTD 28(BX), K1, Z23
	VPBROADCASTD job_nonce(SI), K1, Z25
	VPBROADCASTD (job_nonce+4)(SI), K1, Z26

	// The lane numbers are added to the counters and addresses as a vector, so
	// take them off here.
	MOVQ         R10, AX
	SUBQ         CX, AX
	VPBROADCASTD AX, K1, Z24
	MOVQ         CX, AX
	SHLQ         $6, AX
	NEGQ         AX
	ADDQ         R8, AX
	VPBROADCASTQ AX, Z27
	VPADDQ       steps<>+0(SB), Z27, Z28
	VMOVDQU64    Z28, K1, 0(SP)
	VPADDQ       steps<>+64(SB), Z27, Z28
	VMOVDQU64    Z28, K2, 64(SP)
	VMOVDQU64    Z29, K1, 128(SP)
	VMOVDQU64    Z29, K2, 192(SP)

	// Go on behind these blocks.
	ADDQ DX, CX
	ADDQ DX, R10
	SHLQ $6, DX
	ADDQ DX, R8
	SUBQ DX, R9
	JGE  more

	// The last block is short by -R9 bytes (1 to 63).
	MOVQ  $-1, AX
	NEGQ  R9
	SHRXQ R9, AX, AX
	MOVQ  AX, 120(SP)(CX*8)
	XORL  R9, R9
	MOVL  $1, R11

more:
	CMPQ CX, $16
	JB   fill

filled:
	TESTQ CX, CX
	JZ    wipe
	LEAQ  -16(CX), AX
	ORQ   AX, R11

	VPADDD lanes<>(SB), Z24, Z24

	VPBROADCASTD sigma<>+0(SB), Z0
	VPBROADCASTD sigma<>+4(SB), Z1
	VPBROADCASTD sigma<>+8(SB), Z2
	VPBROADCASTD sigma<>+12(SB), Z3
	VMOVDQA64    Z16, Z4
	VMOVDQA64    Z17, Z5
	VMOVDQA64    Z18, Z6
	VMOVDQA64    Z19, Z7
	VMOVDQA64    Z20, Z8
	VMOVDQA64    Z21, Z9
	VMOVDQA64    Z22, Z10
	VMOVDQA64    Z23, Z11
	VMOVDQA64    Z24, Z12
	VPXORD       Z13, Z13, Z13
	VMOVDQA64    Z25, Z14
	VMOVDQA64    Z26, Z15

	MOVL $10, BX

rounds:
	QUARTER(Z0, Z4, Z8, Z12)
	QUARTER(Z1, Z5, Z9, Z13)
	QUARTER(Z2, Z6, Z10, Z14)
	QUARTER(Z3, Z7, Z11, Z15)
	QUARTER(Z0, Z5, Z10, Z15)
	QUARTER(Z1, Z6, Z11, Z12)
	QUARTER(Z2, Z7, Z8, Z13)
	QUARTER(Z3, Z4, Z9, Z14)
	DECL BX
	JNZ  rounds

	VPADDD.BCST sigma<>+0(SB), Z0, Z0
	VPADDD.BCST sigma<>+4(SB), Z1, Z1
	VPADDD.BCST sigma<>+8(SB), Z2, Z2
	VPADDD.BCST sigma<>+12(SB), Z3, Z3
	VPADDD      Z16, Z4, Z4
	VPADDD      Z17, Z5, Z5
	VPADDD      Z18, Z6, Z6
	VPADDD      Z19, Z7, Z7
	VPADDD      Z20, Z8, Z8
	VPADDD      Z21, Z9, Z9
	VPADDD      Z22, Z10, Z10
	VPADDD      Z23, Z11, Z11
	VPADDD      Z24, Z12, Z12
	VPADDD      Z25, Z14, Z14
	VPADDD      Z26, Z15, Z15

	WORDS(Z0, Z1, Z2, Z3, Z16, Z17, Z18, Z19, Z0, Z1, Z2, Z3)
	WORDS(Z4, Z5, Z6, Z7, Z20, Z21, Z22, Z23, Z4, Z5, Z6, Z7)
	WORDS(Z8, Z9, Z10, Z11, Z24, Z25, Z26, Z27, Z8, Z9, Z10, Z11)
	WORDS(Z12, Z13, Z14, Z15, Z28, Z29, Z30, Z31, Z12, Z13, Z14, Z15)
	CHUNKS(Z0, Z4, Z8, Z12, Z16, Z17, Z18, Z19)
	CHUNKS(Z1, Z5, Z9, Z13, Z20, Z21, Z22, Z23)
	CHUNKS(Z2, Z6, Z10, Z14, Z24, Z25, Z26, Z27)
	CHUNKS(Z3, Z7, Z11, Z15, Z28, Z29, Z30, Z31)

	TESTQ R11, R11
	JNZ   parts
	APPLY64(0, Z0)
	APPLY64(1, Z1)
	APPLY64(2, Z2)
	APPLY64(3, Z3)
	APPLY64(4, Z4)
	APPLY64(5, Z5)
	APPLY64(6, Z6)
	APPLY64(7, Z7)
	APPLY64(8, Z8)
	APPLY64(9, Z9)
	APPLY64(10, Z10)
	APPLY64(11, Z11)
	APPLY64(12, Z12)
	APPLY64(13, Z13)
	APPLY64(14, Z14)
	APPLY64(15, Z15)
	JMP   group

parts:
	APPLY(0, Z0, K1, Z16)
	APPLY(1, Z1, K2, Z17)
	APPLY(2, Z2, K3, Z18)
	APPLY(3, Z3, K4, Z19)
	APPLY(4, Z4, K1, Z16)
	APPLY(5, Z5, K2, Z17)
	APPLY(6, Z6, K3, Z18)
	APPLY(7, Z7, K4, Z19)
	APPLY(8, Z8, K1, Z16)
	APPLY(9, Z9, K2, Z17)
	APPLY(10, Z10, K3, Z18)
	APPLY(11, Z11, K4, Z19)
	APPLY(12, Z12, K1, Z16)
	APPLY(13, Z13, K2, Z17)
	APPLY(14, Z14, K3, Z18)
	APPLY(15, Z15, K4, Z19)
	JMP group

wipe:
	// VZEROUPPER leaves the upper sixteen registers and the low quarters of the
	// others alone; both hold key material.
	VZEROALL
	VPXORQ Z16, Z16, Z16
	VPXORQ Z17, Z17, Z17
	VPXORQ Z18, Z18, Z18
	VPXORQ Z19, Z19, Z19
	VPXORQ Z20, Z20, Z20
	VPXORQ Z21, Z21, Z21
	VPXORQ Z22, Z22, Z22
	VPXORQ Z23, Z23, Z23
	VPXORQ Z24, Z24, Z24
	VPXORQ Z25, Z25, Z25
	VPXORQ Z26, Z26, Z26
	VPXORQ Z27, Z27, Z27
	VPXORQ Z28, Z28, Z28
	VPXORQ Z29, Z29, Z29
	VPXORQ Z30, Z30, Z30
	VPXORQ Z31, Z31, Z31

done:
	RET
