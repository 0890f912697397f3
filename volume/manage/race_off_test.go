//go:build !race

package manage

// underRace: the detector makes everything slower and larger.
const underRace = false
