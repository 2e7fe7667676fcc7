#include "go_asm.h"
#include "textflag.h"

// Poly1305 (RFC 8439, section 2.5) with AVX-512 IFMA, over what the AEAD of
// section 2.8 authenticates when there is no additional data: the ciphertext,
// zeros up to a multiple of 16, a zero word and the length. Eight packets per
// call, in three steps:
//
//	powers  lane = packet: r, r^2 ... r^8 and r^16 of all eight packets at once,
//	        then transposed, so that each packet has its powers in one register
//	blocks  one packet after the other, lane = block: eight blocks at a time,
//	        acc = acc*r^8 + blocks, in two interleaved chains over r^16 where the
//	        packet is long enough; at the end lane j is multiplied by its own
//	        power, so that the sum of the lanes is the polynomial
//	tags    lane = packet again: sum of the lanes, reduction, + s
//
// A packet whose blocks are no multiple of eight starts with lanes that are
// empty (zero, and no 2^128), so that its last block is always the last lane and
// the powers of the end are the same for all packets.
//
// Numbers. h = h0 + h1*2^44 + h2*2^88, limbs in 64-bit lanes, modulo
// 2^132-20 = 4*(2^130-5): what leaves a product at 2^132 comes back times 20.
// A limb is "tight" when it is below 2^44 + 2^15. Both factors of a product are
// tight (limbs of a block are below 2^44), s = 20*r is below 2^48.4: VPMADD52,
// which sees the low 52 bits of its factors, sees all of them. PRODUCT adds the
// nine products in low halves (l) and high halves (u, which count 2^52), on top of
// what is in l already: zero, a block, or another tight number. Then:
//
//	l            three low halves and at most 2^44+2^15:  below 2^53.6
//	u0, u1       one high half of h*r, below 2^36.1, and two of h*s, below
//	             2^40.5; 2^32 in u1 stands for 2^128 of a block:  below 2^42
//	u2           three high halves of h*r:  below 2^37.7
//
// REDUCE brings the high halves to their limbs: u0 and u1 times 2^8 (52 = 44+8),
// below 2^50, u2 times 20*2^8, below 2^50.1, so that again the low half of the
// multiplication is all of it. All l are then below 2^54, the carries below 2^10,
// and a limb of 44 bits and 20 carries (2^14.4) are tight. One carry step, of all
// limbs at once, is enough.
//
// No instruction, branch or address depends on keys or bytes of a packet, only on
// its length.
//
// Key material is in the frame (powers), in keys and in registers; all three are
// overwritten before the function returns.

// Which block of eight is in lane i, after the unpack instructions of DECODE.
DATA order<>+0(SB)/8, $0
DATA order<>+8(SB)/8, $4
DATA order<>+16(SB)/8, $1
DATA order<>+24(SB)/8, $5
DATA order<>+32(SB)/8, $2
DATA order<>+40(SB)/8, $6
DATA order<>+48(SB)/8, $3
DATA order<>+56(SB)/8, $7
GLOBL order<>(SB), RODATA|NOPTR, $64

// The clamp of r, section 2.5.
DATA clamp<>+0(SB)/8, $0x0ffffffc0fffffff
DATA clamp<>+8(SB)/8, $0x0ffffffc0ffffffc
GLOBL clamp<>(SB), RODATA|NOPTR, $16

#define MASK44 Z26
#define TWENTY Z27
#define C5120  Z28 // 20 << 8
#define HIBIT  Z29 // 2^128 within limb 2: 2^40
#define C256   Z30 // 1 << 8
#define HIGH32 Z31 // 2^128 within u1: 2^32

// Frame, from the first multiple of 64 (R13):
#define POWERS 0    // eight rows of three limbs, lane = packet; row i is r^(8-order[i])
#define R16    1536 // r^16, lane = packet
#define OWN    1728 // eight packets, three limbs, lane i = r^(8-order[i]); later the lanes' sums
#define END    3264

// l, u += low and high halves of h*r. In rounds over the six sums, so that no
// instruction waits for the one before it.
#define PRODUCT(h0, h1, h2, r0, r1, r2, s1, s2, l0, l1, l2, u0, u1, u2) \
	VPMADD52HUQ  r2, h0, u2;  \
	VPMADD52HUQ  r0, h0, u0;  \
	VPMADD52HUQ  r1, h0, u1;  \
	VPMADD52LUQ  r0, h0, l0;  \
	VPMADD52LUQ  r1, h0, l1;  \
	VPMADD52LUQ  r2, h0, l2;  \
	VPMADD52HUQ  r1, h1, u2;  \
	VPMADD52HUQ  s2, h1, u0;  \
	VPMADD52HUQ  r0, h1, u1;  \
	VPMADD52LUQ  s2, h1, l0;  \
	VPMADD52LUQ  r0, h1, l1;  \
	VPMADD52LUQ  r1, h1, l2;  \
	VPMADD52HUQ  r0, h2, u2;  \
	VPMADD52HUQ  s1, h2, u0;  \
	VPMADD52HUQ  s2, h2, u1;  \
	VPMADD52LUQ  s1, h2, l0;  \
	VPMADD52LUQ  s2, h2, l1;  \
	VPMADD52LUQ  r0, h2, l2

// The same from zero.
#define MULTIPLY(h0, h1, h2, r0, r1, r2, s1, s2, l0, l1, l2, u0, u1, u2) \
	VPXORQ l0, l0, l0; \
	VPXORQ l1, l1, l1; \
	VPXORQ l2, l2, l2; \
	VPXORQ u0, u0, u0; \
	VPXORQ u1, u1, u1; \
	VPXORQ u2, u2, u2; \
	PRODUCT(h0, h1, h2, r0, r1, r2, s1, s2, l0, l1, l2, u0, u1, u2)

// h = l + u*2^52, tight. See the head of the file.
#define REDUCE(l0, l1, l2, u0, u1, u2, h0, h1, h2) \
	VPMADD52LUQ C5120, u2, l0;   \
	VPMADD52LUQ C256, u0, l1;    \
	VPMADD52LUQ C256, u1, l2;    \
	VPSRLQ      $44, l0, u0;     \
	VPSRLQ      $44, l1, u1;     \
	VPSRLQ      $44, l2, u2;     \
	VPANDQ      MASK44, l0, h0;  \
	VPANDQ      MASK44, l1, h1;  \
	VPANDQ      MASK44, l2, h2;  \
	VPMADD52LUQ TWENTY, u2, h0;  \
	VPADDQ      u0, h1, h1;      \
	VPADDQ      u1, h2, h2

// s = 20*r for a tight r.
#define TIMES20(r, s) \
	VPXORQ      s, s, s;      \
	VPMADD52LUQ TWENTY, r, s

// Limbs of eight blocks that were loaded into a (blocks 0-3) and b (4-7), without
// 2^128, into m0, m1, m2 (b is lost). The lanes are in the order of the table above.
// The three-way instruction is (m1 | b) & MASK44.
#define DECODE(a, b, m0, m1, m2) \
	VPUNPCKLQDQ b, a, m1;             \
	VPUNPCKHQDQ b, a, m2;             \
	VPANDQ      MASK44, m1, m0;       \
	VPSRLQ      $44, m1, m1;          \
	VPSLLQ      $20, m2, b;           \
	VPTERNLOGQ  $0xa8, MASK44, b, m1; \
	VPSRLQ      $24, m2, m2

// h = h*r + the eight whole blocks in a and b.
#define STEP(a, b, h0, h1, h2, l0, l1, l2, u0, u1, u2) \
	DECODE(a, b, l0, l1, l2);  \
	VPXORQ    u0, u0, u0;      \
	VMOVDQA64 HIGH32, u1;      \
	VPXORQ    u2, u2, u2;      \
	PRODUCT(h0, h1, h2, Z6, Z7, Z8, Z9, Z10, l0, l1, l2, u0, u1, u2); \
	REDUCE(l0, l1, l2, u0, u1, u2, h0, h1, h2)
#define STEP0(a, b) STEP(a, b, Z0, Z1, Z2, Z11, Z12, Z13, Z14, Z15, Z16)
#define STEP1(a, b) STEP(a, b, Z3, Z4, Z5, Z17, Z18, Z19, Z20, Z21, Z22)

// k = which bytes of the 64 at offset DI of the packet are in it; DI may be
// negative or beyond the end. BX = length, AX = -1, R10 = 64, R11 = 0; DI and R12
// are lost. The first half finds the bytes before the end, the second takes off
// those before the start.
#define BYTES(k) \
	MOVQ    BX, R12;        \
	SUBQ    DI, R12;        \
	CMOVQLT R11, R12;       \
	CMPQ    R12, $64;       \
	CMOVQGT R10, R12;       \
	BZHIQ   R12, AX, R12;   \
	NEGQ    DI;             \
	CMOVQLT R11, DI;        \
	CMPQ    DI, $64;        \
	CMOVQGT R10, DI;        \
	BZHIQ   DI, AX, DI;     \
	ANDNQ   R12, DI, R12;   \
	KMOVQ   R12, k

// a, b = the last eight blocks, which end with the length block, at R15. The first
// half is all data, and 33 to 48 bytes of the second: only the length block and less
// than a block of padding lie beyond. R8, BX = data and length, K7 = lane 7; AX and
// R12 are lost.
#define LAST(a, b) \
	VMOVDQU64    (R15), a;            \
	LEAQ         64(R15), R12;        \
	SUBQ         R8, R12;             \
	NEGQ         R12;                 \
	ADDQ         BX, R12;             \
	MOVQ         $-1, AX;             \
	BZHIQ        R12, AX, R12;        \
	KMOVQ        R12, K1;             \
	VMOVDQU8.Z   64(R15), K1, b;      \
	VPBROADCASTQ BX, K7, b

// Eight rows of eight 64-bit words, transposed; row i becomes column i.
#define TRANSPOSE(a0, a1, a2, a3, a4, a5, a6, a7, t0, t1, t2, t3, t4, t5, t6, t7) \
	VPUNPCKLQDQ a1, a0, t0;       \
	VPUNPCKHQDQ a1, a0, t1;       \
	VPUNPCKLQDQ a3, a2, t2;       \
	VPUNPCKHQDQ a3, a2, t3;       \
	VPUNPCKLQDQ a5, a4, t4;       \
	VPUNPCKHQDQ a5, a4, t5;       \
	VPUNPCKLQDQ a7, a6, t6;       \
	VPUNPCKHQDQ a7, a6, t7;       \
	VSHUFI64X2  $0x44, t2, t0, a0; \
	VSHUFI64X2  $0x44, t6, t4, a1; \
	VSHUFI64X2  $0xee, t2, t0, a2; \
	VSHUFI64X2  $0xee, t6, t4, a3; \
	VSHUFI64X2  $0x44, t3, t1, a4; \
	VSHUFI64X2  $0x44, t7, t5, a5; \
	VSHUFI64X2  $0xee, t3, t1, a6; \
	VSHUFI64X2  $0xee, t7, t5, a7; \
	VSHUFI64X2  $0x88, a1, a0, t0; \
	VSHUFI64X2  $0xdd, a1, a0, t2; \
	VSHUFI64X2  $0x88, a3, a2, t4; \
	VSHUFI64X2  $0xdd, a3, a2, t6; \
	VSHUFI64X2  $0x88, a5, a4, t1; \
	VSHUFI64X2  $0xdd, a5, a4, t3; \
	VSHUFI64X2  $0x88, a7, a6, t5; \
	VSHUFI64X2  $0xdd, a7, a6, t7

#define STORE3(at, h0, h1, h2) \
	VMOVDQA64 h0, (at)(R13);     \
	VMOVDQA64 h1, (at+64)(R13);  \
	VMOVDQA64 h2, (at+128)(R13)

// The powers of limb l: from one row per power to one row per packet.
#define OWNPOWERS(l) \
	VMOVDQA64 (POWERS+0*192+64*l)(R13), Z0; \
	VMOVDQA64 (POWERS+1*192+64*l)(R13), Z1; \
	VMOVDQA64 (POWERS+2*192+64*l)(R13), Z2; \
	VMOVDQA64 (POWERS+3*192+64*l)(R13), Z3; \
	VMOVDQA64 (POWERS+4*192+64*l)(R13), Z4; \
	VMOVDQA64 (POWERS+5*192+64*l)(R13), Z5; \
	VMOVDQA64 (POWERS+6*192+64*l)(R13), Z6; \
	VMOVDQA64 (POWERS+7*192+64*l)(R13), Z7; \
	TRANSPOSE(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15); \
	VMOVDQA64 Z8, (OWN+0*192+64*l)(R13);  \
	VMOVDQA64 Z9, (OWN+1*192+64*l)(R13);  \
	VMOVDQA64 Z10, (OWN+2*192+64*l)(R13); \
	VMOVDQA64 Z11, (OWN+3*192+64*l)(R13); \
	VMOVDQA64 Z12, (OWN+4*192+64*l)(R13); \
	VMOVDQA64 Z13, (OWN+5*192+64*l)(R13); \
	VMOVDQA64 Z14, (OWN+6*192+64*l)(R13); \
	VMOVDQA64 Z15, (OWN+7*192+64*l)(R13)

// h = limb l of all packets: the sum over the eight lanes of each.
#define SUM(l, h) \
	VMOVDQA64   (OWN+0*192+64*l)(R13), Z8;  \
	VMOVDQA64   (OWN+1*192+64*l)(R13), Z9;  \
	VMOVDQA64   (OWN+2*192+64*l)(R13), Z10; \
	VMOVDQA64   (OWN+3*192+64*l)(R13), Z11; \
	VMOVDQA64   (OWN+4*192+64*l)(R13), Z12; \
	VMOVDQA64   (OWN+5*192+64*l)(R13), Z13; \
	VMOVDQA64   (OWN+6*192+64*l)(R13), Z14; \
	VMOVDQA64   (OWN+7*192+64*l)(R13), Z15; \
	PAIR(Z8, Z9, Z16);                      \
	PAIR(Z10, Z11, Z17);                    \
	PAIR(Z12, Z13, Z18);                    \
	PAIR(Z14, Z15, Z19);                    \
	HALVES($0x44, $0xee, Z16, Z17, Z8);     \
	HALVES($0x44, $0xee, Z18, Z19, Z9);     \
	HALVES($0x88, $0xdd, Z8, Z9, h)
#define PAIR(a, b, h) \
	VPUNPCKLQDQ b, a, h; \
	VPUNPCKHQDQ b, a, a; \
	VPADDQ      a, h, h
#define HALVES(i, j, a, b, h) \
	VSHUFI64X2 i, b, a, h; \
	VSHUFI64X2 j, b, a, a; \
	VPADDQ     a, h, h

// func poly8(jobs *job, n int, keys *[8][32]byte, tags *[8][16]byte)
//
//	SI, CX    this packet's job and number
//	R13       frame
//	DX        OWN of this packet
//	R8, BX    its data and length
//	R15, R9   the next eight blocks, and how many eights remain from there
//	R10, R11  64 and 0
//	Z0-Z5     accumulators of the two chains
//	Z6-Z10    right factor: r0, r1, r2, 20*r1, 20*r2
//	Z11-Z22   products of the two chains
//	Z23-Z25   blocks, and anything short-lived
TEXT ·poly8(SB), 0, $3328-32
	LEAQ 63(SP), R13
	ANDQ $~63, R13

	MOVQ         $0xfffffffffff, AX
	VPBROADCASTQ AX, MASK44
	MOVQ         $20, AX
	VPBROADCASTQ AX, TWENTY
	MOVQ         $5120, AX
	VPBROADCASTQ AX, C5120
	MOVQ         $0x10000000000, AX
	VPBROADCASTQ AX, HIBIT
	MOVQ         $256, AX
	VPBROADCASTQ AX, C256
	MOVQ         $0x100000000, AX
	VPBROADCASTQ AX, HIGH32

	// Powers. A key is r (16 bytes), then s. Two keys are in each register; the
	// unpack instructions and the shuffle bring the low words of all r together
	// (as packets 0 2 1 3 4 6 5 7), then the high words.
	MOVQ        keys+16(FP), AX
	VMOVDQU64   0(AX), Z0
	VMOVDQU64   64(AX), Z1
	VMOVDQU64   128(AX), Z2
	VMOVDQU64   192(AX), Z3
	VPUNPCKLQDQ Z1, Z0, Z4
	VPUNPCKLQDQ Z3, Z2, Z5
	VSHUFI64X2  $0x88, Z5, Z4, Z6
	VPERMQ      $0xd8, Z6, Z6
	VPUNPCKHQDQ Z1, Z0, Z4
	VPUNPCKHQDQ Z3, Z2, Z5
	VSHUFI64X2  $0x88, Z5, Z4, Z7
	VPERMQ      $0xd8, Z7, Z7
	VPANDQ.BCST clamp<>+0(SB), Z6, Z6
	VPANDQ.BCST clamp<>+8(SB), Z7, Z7
	VPANDQ      MASK44, Z6, Z0
	VPSRLQ      $44, Z6, Z1
	VPSLLQ      $20, Z7, Z2
	VPTERNLOGQ  $0xa8, MASK44, Z2, Z1
	VPSRLQ      $24, Z7, Z2
	STORE3(POWERS+7*192, Z0, Z1, Z2)

	TIMES20(Z1, Z12)
	TIMES20(Z2, Z13)
	MULTIPLY(Z0, Z1, Z2, Z0, Z1, Z2, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z3, Z4, Z5)
	STORE3(POWERS+5*192, Z3, Z4, Z5) // r^2
	TIMES20(Z4, Z12)
	TIMES20(Z5, Z13)
	MULTIPLY(Z3, Z4, Z5, Z3, Z4, Z5, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z9, Z10, Z11)
	STORE3(POWERS+1*192, Z9, Z10, Z11) // r^4
	MULTIPLY(Z0, Z1, Z2, Z3, Z4, Z5, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z6, Z7, Z8)
	STORE3(POWERS+3*192, Z6, Z7, Z8) // r^3
	TIMES20(Z10, Z12)
	TIMES20(Z11, Z13)
	MULTIPLY(Z0, Z1, Z2, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z14, Z15, Z16)
	STORE3(POWERS+6*192, Z14, Z15, Z16) // r^5
	MULTIPLY(Z3, Z4, Z5, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z14, Z15, Z16)
	STORE3(POWERS+4*192, Z14, Z15, Z16) // r^6
	MULTIPLY(Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z14, Z15, Z16)
	STORE3(POWERS+2*192, Z14, Z15, Z16) // r^7
	MULTIPLY(Z9, Z10, Z11, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z0, Z1, Z2)
	STORE3(POWERS+0*192, Z0, Z1, Z2) // r^8
	TIMES20(Z1, Z12)
	TIMES20(Z2, Z13)
	MULTIPLY(Z0, Z1, Z2, Z0, Z1, Z2, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)
	REDUCE(Z14, Z15, Z16, Z17, Z18, Z19, Z0, Z1, Z2)
	STORE3(R16, Z0, Z1, Z2)
	OWNPOWERS(0)
	OWNPOWERS(1)
	OWNPOWERS(2)

	MOVQ  jobs+0(FP), SI
	XORL  CX, CX
	LEAQ  OWN(R13), DX
	MOVL  $64, R10
	XORL  R11, R11
	MOVL  $0x80, AX
	KMOVW AX, K7

packet:
	MOVQ job_data(SI), R8
	MOVQ job_n(SI), BX

	// AX = blocks, the length block too; R9 = eights; R12 = empty lanes of the
	// first eight, which so begins 16*R12 bytes before the data. K3 = the lanes
	// that are not empty.
	LEAQ         15(BX), AX
	SHRQ         $4, AX
	INCQ         AX
	LEAQ         7(AX), R9
	SHRQ         $3, R9
	LEAQ         (R9*8), R12
	SUBQ         AX, R12
	VPBROADCASTQ R12, Z25
	VPCMPUQ      $2, order<>+0(SB), Z25, K3
	SHLQ         $4, R12
	MOVQ         R8, R15
	SUBQ         R12, R15

	// The first eight.
	MOVQ       $-1, AX
	MOVQ       R15, DI
	SUBQ       R8, DI
	BYTES(K1)
	LEAQ       64(R15), DI
	SUBQ       R8, DI
	BYTES(K2)
	VMOVDQU8.Z (R15), K1, Z23
	VMOVDQU8.Z 64(R15), K2, Z24
	ADDQ       $128, R15
	DECQ       R9
	JZ         only
	DECODE(Z23, Z24, Z3, Z4, Z5)
	VPORQ      HIBIT, Z5, K3, Z5
	CMPQ       R9, $3
	JB         short

	// Four eights or more: two chains, each over every other eight.
	VPBROADCASTQ (R16+0)(R13)(CX*8), Z6
	VPBROADCASTQ (R16+64)(R13)(CX*8), Z7
	VPBROADCASTQ (R16+128)(R13)(CX*8), Z8
	TIMES20(Z7, Z9)
	TIMES20(Z8, Z10)

	// With an even number, the first is the first chain's and the second the
	// second's; with an odd number the first chain begins with nothing.
	TESTQ     $1, R9
	JZ        odd
	VMOVDQA64 Z3, Z0
	VMOVDQA64 Z4, Z1
	VMOVDQA64 Z5, Z2
	VMOVDQU64 (R15), Z23
	VMOVDQU64 64(R15), Z24
	DECODE(Z23, Z24, Z3, Z4, Z5)
	VPORQ     HIBIT, Z5, Z5
	ADDQ      $128, R15
	DECQ      R9
	JMP       pairs

odd:
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2

pairs:
	// R9 is even and at least 2.
	VMOVDQU64 (R15), Z23
	VMOVDQU64 64(R15), Z24
	STEP0(Z23, Z24)
	ADDQ      $128, R15
	SUBQ      $2, R9
	JZ        join
	VMOVDQU64 (R15), Z23
	VMOVDQU64 64(R15), Z24
	STEP1(Z23, Z24)
	ADDQ      $128, R15
	JMP       pairs

join:
	LAST(Z23, Z24)
	STEP1(Z23, Z24)

	// The first chain is one eight behind: times r^8, on top of the second.
	VPBROADCASTQ (DX), Z6
	VPBROADCASTQ 64(DX), Z7
	VPBROADCASTQ 128(DX), Z8
	TIMES20(Z7, Z9)
	TIMES20(Z8, Z10)
	VPXORQ Z14, Z14, Z14
	VPXORQ Z15, Z15, Z15
	VPXORQ Z16, Z16, Z16
	PRODUCT(Z0, Z1, Z2, Z6, Z7, Z8, Z9, Z10, Z3, Z4, Z5, Z14, Z15, Z16)
	REDUCE(Z3, Z4, Z5, Z14, Z15, Z16, Z3, Z4, Z5)
	JMP    finish

only:
	// The last lane is the length block; it is never empty.
	VPBROADCASTQ BX, K7, Z24
	DECODE(Z23, Z24, Z3, Z4, Z5)
	VPORQ        HIBIT, Z5, K3, Z5
	JMP          finish

short:
	// Two or three eights: one chain over r^8.
	VPBROADCASTQ (DX), Z6
	VPBROADCASTQ 64(DX), Z7
	VPBROADCASTQ 128(DX), Z8
	TIMES20(Z7, Z9)
	TIMES20(Z8, Z10)
	CMPQ         R9, $1
	JE           second
	VMOVDQU64    (R15), Z23
	VMOVDQU64    64(R15), Z24
	STEP1(Z23, Z24)
	ADDQ         $128, R15

second:
	LAST(Z23, Z24)
	STEP1(Z23, Z24)

finish:
	// Each lane times the power that its last block needs.
	VMOVDQA64 0(DX), Z6
	VMOVDQA64 64(DX), Z7
	VMOVDQA64 128(DX), Z8
	TIMES20(Z7, Z9)
	TIMES20(Z8, Z10)
	MULTIPLY(Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16)
	REDUCE(Z11, Z12, Z13, Z14, Z15, Z16, Z3, Z4, Z5)
	VMOVDQA64 Z3, 0(DX)
	VMOVDQA64 Z4, 64(DX)
	VMOVDQA64 Z5, 128(DX)

	ADDQ $192, DX
	ADDQ $job__size, SI
	INCQ CX
	CMPQ CX, n+8(FP)
	JB   packet

	// Tags. The sum of eight tight limbs is below 2^48. (In lanes of packets that
	// do not exist it is a sum of powers: the tag means nothing.)
	SUM(0, Z0)
	SUM(1, Z1)
	SUM(2, Z2)

	// Carry with a top limb of 42 bits: what leaves it is at 2^130 and comes back
	// times 5. The second round leaves h0, h1 below 2^44 and h2 at most 2^42, for
	// the first leaves at most 2^6*5 to come back: h < 2^130 + 2^88 < 2p.
	MOVQ         $0x3ffffffffff, AX
	VPBROADCASTQ AX, Z4
	VPSRLQ       $44, Z0, Z5
	VPANDQ       MASK44, Z0, Z0
	VPADDQ       Z5, Z1, Z1
	VPSRLQ       $44, Z1, Z5
	VPANDQ       MASK44, Z1, Z1
	VPADDQ       Z5, Z2, Z2
	VPSRLQ       $42, Z2, Z5
	VPANDQ       Z4, Z2, Z2
	VPSLLQ       $2, Z5, Z6
	VPADDQ       Z5, Z0, Z0
	VPADDQ       Z6, Z0, Z0
	VPSRLQ       $44, Z0, Z5
	VPANDQ       MASK44, Z0, Z0
	VPADDQ       Z5, Z1, Z1
	VPSRLQ       $44, Z1, Z5
	VPANDQ       MASK44, Z1, Z1
	VPADDQ       Z5, Z2, Z2

	// g = h + 5. If that reaches 2^130, h mod p = g - 2^130, else it is h.
	MOVQ         $5, AX
	VPBROADCASTQ AX, Z5
	VPADDQ       Z5, Z0, Z5
	VPSRLQ       $44, Z5, Z6
	VPANDQ       MASK44, Z5, Z5
	VPADDQ       Z6, Z1, Z6
	VPSRLQ       $44, Z6, Z7
	VPANDQ       MASK44, Z6, Z6
	VPADDQ       Z7, Z2, Z7
	VPCMPUQ      $6, Z4, Z7, K1 // g2 > 2^42-1
	VPANDQ       Z4, Z7, Z7
	VMOVDQA64    Z5, K1, Z0
	VMOVDQA64    Z6, K1, Z1
	VMOVDQA64    Z7, K1, Z2

	// To two words, modulo 2^128.
	VPSLLQ $44, Z1, Z5
	VPORQ  Z5, Z0, Z0
	VPSRLQ $20, Z1, Z1
	VPSLLQ $24, Z2, Z2
	VPORQ  Z2, Z1, Z1

	// s, by packet as r above; then the keys are used up.
	MOVQ        keys+16(FP), AX
	VMOVDQU64   0(AX), Z2
	VMOVDQU64   64(AX), Z3
	VMOVDQU64   128(AX), Z4
	VMOVDQU64   192(AX), Z5
	VPUNPCKLQDQ Z3, Z2, Z6
	VPUNPCKLQDQ Z5, Z4, Z7
	VSHUFI64X2  $0xdd, Z7, Z6, Z8
	VPERMQ      $0xd8, Z8, Z8
	VPUNPCKHQDQ Z3, Z2, Z6
	VPUNPCKHQDQ Z5, Z4, Z7
	VSHUFI64X2  $0xdd, Z7, Z6, Z9
	VPERMQ      $0xd8, Z9, Z9

	// h + s; the low word is less than an operand where it overflowed.
	VPADDQ      Z8, Z0, Z0
	VPCMPUQ     $1, Z8, Z0, K1
	VPADDQ      Z9, Z1, Z1
	MOVQ        $1, BX
	VPBROADCASTQ BX, Z8
	VPADDQ      Z8, Z1, K1, Z1

	// The tags of packets 0 2 4 6 and 1 3 5 7, then in order.
	VPUNPCKLQDQ Z1, Z0, Z2
	VPUNPCKHQDQ Z1, Z0, Z3
	VSHUFI64X2  $0x44, Z3, Z2, Z4
	VSHUFI64X2  $0xd8, Z4, Z4, Z4
	VSHUFI64X2  $0xee, Z3, Z2, Z5
	VSHUFI64X2  $0xd8, Z5, Z5, Z5
	MOVQ        tags+24(FP), BX
	VMOVDQU64   Z4, 0(BX)
	VMOVDQU64   Z5, 64(BX)

	// Forget the keys and the powers.
	VPXORQ    Z0, Z0, Z0
	VMOVDQU64 Z0, 0(AX)
	VMOVDQU64 Z0, 64(AX)
	VMOVDQU64 Z0, 128(AX)
	VMOVDQU64 Z0, 192(AX)
	MOVQ      R13, AX
	LEAQ      END(R13), BX

forget:
	VMOVDQA64 Z0, 0(AX)
	VMOVDQA64 Z0, 64(AX)
	VMOVDQA64 Z0, 128(AX)
	ADDQ      $192, AX
	CMPQ      AX, BX
	JB        forget

	// And what is in registers (VZEROALL does not reach the upper sixteen).
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
	RET
