package spec

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ValueMax is the length of the longest value, in bytes.
const ValueMax = 4096

// Check says what is wrong with value for this option: nil, or an Invalid.
func (o *Option) Check(value string) error {
	if len(value) > ValueMax || strings.ContainsAny(value, "\x00\n\r") {
		return invalidf("option %s: the value is longer than %d bytes or more than one line", o.Key, ValueMax)
	}
	switch o.Kind {
	case Bool:
		if _, ok := ParseBool(value); !ok {
			return invalidf("option %s %s: '%s' is not a valid boolean value", o.Key, value, value)
		}
	case Int:
		n, err := strconv.ParseInt(value, 0, 64)
		if err != nil || strings.Contains(value, "_") {
			return invalidf("invalid number format \"%s\" in option \"%s\"", value, o.Key)
		}
		return o.checkRange(value, n)
	case Size:
		n, ok := ParseSize(value)
		if !ok {
			return invalidf("invalid number format \"%s\" in option \"%s\"", value, o.Key)
		}
		return o.checkRange(value, n)
	case Duration:
		n, ok := ParseSeconds(value)
		if !ok {
			return invalidf("invalid time format \"%s\" in \"option %s\"", value, o.Key)
		}
		return o.checkRange(value, n)
	case Percent:
		return o.checkPercent(value)
	case PercentOrSize:
		if strings.HasSuffix(value, "%") {
			return o.checkPercent(value)
		}
		n, ok := ParseSize(value)
		if !ok {
			return invalidf("invalid number format \"%s\" in \"option %s\"", value, o.Key)
		}
		return o.checkRange(value, n)
	default:
		return o.checkText(value)
	}
	return nil
}

func (o *Option) checkText(value string) error {
	switch o.Kind {
	case Text:
		if len(o.Values) == 0 {
			return nil
		}
		for _, v := range o.Values {
			if v == value {
				return nil
			}
		}
		return invalidf("option %s %s: '%s' is not valid (possible options are %s.)",
			o.Key, value, value, strings.Join(o.Values, ", "))
	case Mode:
		n, err := strconv.ParseInt(value, 8, 64)
		if err != nil || strings.ContainsAny(value, "+-_") {
			return invalidf("invalid number format \"%s\" in option \"%s\"", value, o.Key)
		}
		return o.checkRange(value, n)
	case Path:
		switch {
		case value == "" || value[0] != '/':
			return invalidf("option %s %s: '%s' is not an absolute path name", o.Key, value, value)
		case strings.Contains(value+"/", "/../"):
			return invalidf("invalid path given '%s'", value)
		}
	case Addresses:
		for a := range strings.SplitSeq(value, ",") {
			if !validAddress(a) {
				return invalidf("option %s %s: '%s' is not a valid internet-address-list", o.Key, value, value)
			}
		}
	}
	return nil
}

func (o *Option) checkPercent(value string) error {
	p, ok := ParsePercent(value)
	if !ok {
		return invalidf("invalid percent format \"%s\" in \"option %s\"", value, o.Key)
	}
	if p < 0 || p > 100 {
		return invalidf("'%f' in 'option %s %s' is out of range [0 - 100]", p, o.Key, value)
	}
	return nil
}

func (o *Option) checkRange(value string, n int64) error {
	switch {
	case !o.Limited || n >= o.Min && n <= o.Max:
		return nil
	case o.Max == Unlimited:
		return invalidf("'%d' in 'option %s %s' is smaller than minimum value '%d'", n, o.Key, value, o.Min)
	case o.Kind == Mode:
		return invalidf("'%o' in 'option %s %s' is out of range [%04o - %04o]", n, o.Key, value, o.Min, o.Max)
	}
	return invalidf("'%d' in 'option %s %s' is out of range [%d - %d]", n, o.Key, value, o.Min, o.Max)
}

// Range describes the allowed values for people, "" if there is nothing to say
// beyond the kind.
func (o *Option) Range() string {
	switch {
	case len(o.Values) > 0:
		return strings.Join(o.Values, ", ")
	case o.Limited && o.Max == Unlimited:
		return fmt.Sprintf("%d or more", o.Min)
	case o.Limited && o.Kind == Mode:
		return fmt.Sprintf("%04o to %04o", o.Min, o.Max)
	case o.Limited:
		return fmt.Sprintf("%d to %d", o.Min, o.Max)
	}
	return ""
}

// ParseBool reads a Bool.
func ParseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "1", "on", "yes", "true", "enable":
		return true, true
	case "0", "off", "no", "false", "disable":
		return false, true
	}
	return false, false
}

// ParseSize reads a Size, in bytes.
func ParseSize(s string) (bytes int64, ok bool) {
	number := strings.TrimRight(s, "KMGTPEIBkmgtpeib")
	shift := 0
	switch unit := strings.ToUpper(s[len(number):]); unit {
	case "", "B":
	default:
		i := strings.IndexByte("KMGTP", unit[0])
		if i < 0 || unit[1:] != "" && unit[1:] != "B" && unit[1:] != "IB" {
			return 0, false
		}
		shift = 10 * (i + 1)
	}
	if n, err := strconv.ParseUint(number, 10, 63); err == nil {
		if n > math.MaxInt64>>shift {
			return 0, false
		}
		return int64(n) << shift, true
	}
	f, ok := parseDecimal(number)
	if f *= float64(int64(1) << shift); !ok || f >= math.MaxInt64 {
		return 0, false
	}
	return int64(f), true
}

// parseDecimal reads digits with a point among them: no sign, no exponent.
func parseDecimal(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// ParsePercent reads a Percent.
func ParsePercent(s string) (float64, bool) {
	s = strings.TrimSuffix(s, "%")
	f, ok := parseDecimal(strings.TrimPrefix(s, "-"))
	if strings.HasPrefix(s, "-") {
		f = -f
	}
	return f, ok
}

// ParseSeconds reads a Duration, in seconds.
func ParseSeconds(s string) (seconds int64, ok bool) {
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, false
	}
	switch strings.ToLower(s[len(number):]) {
	case "", "s", "sec":
		return int64(n), true
	case "m", "min":
		return int64(n) * 60, true
	case "h", "hr":
		return int64(n) * 3600, true
	case "d", "day", "days":
		return int64(n) * 86400, true
	case "w", "wk", "week":
		return int64(n) * 7 * 86400, true
	}
	return 0, false
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// validAddress reports whether s is "*", "all" or "none" (as names), an
// address, a network, a host name, "@group", or a pattern with *.
func validAddress(s string) bool {
	if s == "" {
		return false
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if _, err := netip.ParsePrefix(s); err == nil {
		return true
	}
	s = strings.TrimPrefix(s, "@")
	return s == "*" || validHost(strings.NewReplacer("*", "x", "?", "x", "[", "x", "]", "x").Replace(s))
}

// Values reads the options of a map (Map.Options): what was set, or the default.
// Values that do not parse count as not set, so that an older program does not
// stumble over a newer one's.
type Values map[string]string

// String is the option's value.
func (v Values) String(name string) string {
	if s, ok := v[name]; ok {
		return s
	}
	return Default(name)
}

// Bool is the value of a Bool option.
func (v Values) Bool(name string) bool {
	if b, ok := ParseBool(v[name]); ok {
		return b
	}
	b, _ := ParseBool(Default(name))
	return b
}

// Int is the value of an Int option.
func (v Values) Int(name string) int64 {
	if n, err := strconv.ParseInt(v[name], 0, 64); err == nil {
		return n
	}
	n, _ := strconv.ParseInt(Default(name), 0, 64)
	return n
}

// Size is the value of a Size option, in bytes.
func (v Values) Size(name string) int64 {
	if n, ok := ParseSize(v[name]); ok {
		return n
	}
	n, _ := ParseSize(Default(name))
	return n
}

// Duration is the value of a Duration option.
func (v Values) Duration(name string) time.Duration {
	n, ok := ParseSeconds(v[name])
	if !ok {
		n, _ = ParseSeconds(Default(name))
	}
	return time.Duration(n) * time.Second
}

// Share is the value of a Percent or PercentOrSize option, applied to a whole
// of that many bytes (or anything else that is counted).
func (v Values) Share(name string, whole uint64) uint64 {
	if n, ok := share(v[name], whole); ok {
		return n
	}
	n, _ := share(Default(name), whole)
	return n
}

func share(value string, whole uint64) (uint64, bool) {
	if strings.HasSuffix(value, "%") {
		p, ok := ParsePercent(value)
		return uint64(float64(whole) * min(max(p, 0), 100) / 100), ok
	}
	n, ok := ParseSize(value)
	return uint64(n), ok
}
