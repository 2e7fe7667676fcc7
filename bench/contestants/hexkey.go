package contestants

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// hexKey is a private key as wireguard-go's control socket takes it.
func hexKey(key wireguard.PrivateKey) (string, error) {
	raw, err := base64.StdEncoding.AppendDecode(nil, key.RevealBase64())
	if err != nil {
		return "", fmt.Errorf("private key: %w", err)
	}
	defer clear(raw)
	return hex.EncodeToString(raw), nil
}
