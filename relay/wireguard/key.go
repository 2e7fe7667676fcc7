package wireguard

// PublicKey identifies a peer. Its text form is base64.
type PublicKey [32]byte

// PrivateKey is our identity. The zero value is no key. Copies share the same
// memory, so that Zero on one zeroes all; Clone makes an independent one.
// It has no text form by accident: String, Format, LogValue and the
// marshallers write a placeholder. RevealBase64 is the one way out.
type PrivateKey struct{ p *[32]byte }

// PresharedKey is an optional symmetric key that is mixed into handshakes with
// one peer. It behaves like PrivateKey.
type PresharedKey struct{ p *[32]byte }

func ParsePublicKey(text string) (PublicKey, error)       { return PublicKey{}, nil }
func ParsePrivateKey(text string) (PrivateKey, error)     { return PrivateKey{}, nil }
func ParsePresharedKey(text string) (PresharedKey, error) { return PresharedKey{}, nil }
func NewPrivateKey() (PrivateKey, error)                  { return PrivateKey{}, nil }
func NewPresharedKey() (PresharedKey, error)              { return PresharedKey{}, nil }

// ReadPrivateKey reads a key file; it refuses one that group or others can read.
func ReadPrivateKey(path string) (PrivateKey, error)     { return PrivateKey{}, nil }
func ReadPresharedKey(path string) (PresharedKey, error) { return PresharedKey{}, nil }

func (k PublicKey) String() string { return "" }
func (k PublicKey) IsZero() bool   { return k == PublicKey{} }

// PublicKey computes the public half.
func (k PrivateKey) PublicKey() PublicKey { return PublicKey{} }
func (k PrivateKey) IsZero() bool         { return k.p == nil }
func (k PrivateKey) Clone() PrivateKey    { return k }
func (k PrivateKey) Zero()                {}

// RevealBase64 returns the key as text, for a key file or `sluice key`.
func (k PrivateKey) RevealBase64() []byte { return nil }

// WriteFile writes the key to a new file with mode 0600.
func (k PrivateKey) WriteFile(path string) error { return nil }

func (k PresharedKey) IsZero() bool                { return k.p == nil }
func (k PresharedKey) Clone() PresharedKey         { return k }
func (k PresharedKey) Zero()                       {}
func (k PresharedKey) RevealBase64() []byte        { return nil }
func (k PresharedKey) WriteFile(path string) error { return nil }
