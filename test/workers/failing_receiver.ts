// A receiver that throws.

throw new Error('the test made me fail');
