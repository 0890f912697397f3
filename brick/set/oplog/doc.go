// Package oplog is what a member of a set remembers on its disk beside the data:
// which changes were under way, and in what the members may differ.
package oplog
