package sim

import "errors"

func runFull(seed uint64, o *Options) (Result, error) {
	return Result{}, errors.New("not yet")
}
